// Typed, bounded access to the keys of a config.json, with a sentence for every way in which it can be wrong.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/limits.h"
#include "formats/json.h"

namespace qtool {

// A key by the names that a family's files give it: the first that is present counts. Empty: no such key.
struct ConfigKey {
  std::string_view name;
  std::string_view other = {};
};

// All errors are kMalformed unless said otherwise and begin with "config.json: ". A null value is an absent
// one, but where `null` is asked for. `fallback` is given back for an absent key, and is not checked.
class ConfigReader {
 public:
  // An object inside config.json is named by `path`: "text_config".
  explicit ConfigReader(const Json& config, std::string path = "");

  const Json& json() const { return config_; }
  bool has(ConfigKey key) const;   // present and not null
  bool null(ConfigKey key) const;  // present and null

  std::int64_t size(ConfigKey key, std::int64_t max = kMaxExtent) const;  // required; 1 to max
  std::int64_t size(ConfigKey key, std::int64_t fallback, std::int64_t max) const;
  std::int64_t integer(ConfigKey key, std::int64_t fallback) const;
  double number(ConfigKey key, double fallback) const;    // in the range of float32
  double positive(ConfigKey key, double fallback) const;  // and above 0 there, as its inverse
  bool flag(ConfigKey key, bool fallback) const;
  std::string text(ConfigKey key, std::string_view fallback) const;
  std::vector<std::string> texts(ConfigKey key) const;      // [] if absent
  std::vector<std::int64_t> integers(ConfigKey key) const;  // [] if absent
  ConfigReader object(ConfigKey key) const;                 // an empty one if absent

  std::string shown(ConfigKey key) const;  // the name that is present, or the first, in quotes

  [[noreturn]] void malformed(const std::string& message) const;
  // Errors: kUnsupported, naming the key and its value.
  [[noreturn]] void unsupported(ConfigKey key, const std::string& why) const;
  // Refuses a switch that is on and would change what is computed.
  void refuse_if(ConfigKey key, const std::string& why) const;

 private:
  const char* name_of(ConfigKey key) const;  // the one that is present, or the first

  const Json& config_;
  std::string path_;
  std::string what_;
};

}  // namespace qtool
