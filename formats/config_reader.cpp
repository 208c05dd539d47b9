#include "formats/config_reader.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace qtool {
namespace {

const Json& empty_object() {
  static const Json kEmpty = Json::object();
  return kEmpty;
}

}  // namespace

ConfigReader::ConfigReader(const Json& config, std::string path)
    : config_(config), path_(std::move(path)), what_("config.json") {
  if (!config.is_object())
    malformed((path_.empty() ? std::string("it") : "'" + path_ + "'") + " must be an object");
  if (!path_.empty()) what_ += ": " + path_;
}

const char* ConfigReader::name_of(ConfigKey key) const {
  // Both are views of string literals, so they end in a zero byte.
  if (!key.other.empty() && !has({key.name}) && has({key.other})) return key.other.data();
  return key.name.data();
}

std::string ConfigReader::shown(ConfigKey key) const { return "'" + std::string(name_of(key)) + "'"; }

bool ConfigReader::has(ConfigKey key) const {
  for (const std::string_view name : {key.name, key.other}) {
    if (name.empty()) continue;
    const auto found = config_.find(name);
    if (found != config_.end() && !found->is_null()) return true;
  }
  return false;
}

bool ConfigReader::null(ConfigKey key) const {
  return !has(key) && (config_.contains(key.name) || (!key.other.empty() && config_.contains(key.other)));
}

std::int64_t ConfigReader::size(ConfigKey key, std::int64_t max) const {
  if (!has(key)) malformed(shown(key) + " is missing");
  return size(key, 0, max);
}

std::int64_t ConfigReader::size(ConfigKey key, std::int64_t fallback, std::int64_t max) const {
  if (!has(key)) return fallback;
  const std::int64_t value = required_int(config_, name_of(key), what_);
  if (value < 1 || value > max)
    malformed(shown(key) + " must be between 1 and " + std::to_string(max) + ", is " + std::to_string(value));
  return value;
}

std::int64_t ConfigReader::integer(ConfigKey key, std::int64_t fallback) const {
  return optional_int(config_, name_of(key), fallback, what_);
}

double ConfigReader::number(ConfigKey key, double fallback) const {
  if (!has(key)) return fallback;
  const double value = optional_number(config_, name_of(key), fallback, what_);
  if (!(std::abs(value) <= std::numeric_limits<float>::max())) malformed(shown(key) + " is out of range");
  return value;
}

double ConfigReader::positive(ConfigKey key, double fallback) const {
  if (!has(key)) return fallback;
  const double value = number(key, fallback);
  if (!(value >= std::numeric_limits<float>::min()))
    malformed(shown(key) + " must be positive, is " + std::to_string(value));
  return value;
}

bool ConfigReader::flag(ConfigKey key, bool fallback) const {
  return has(key) ? optional_bool(config_, name_of(key), fallback, what_) : fallback;
}

std::string ConfigReader::text(ConfigKey key, std::string_view fallback) const {
  return optional_string(config_, name_of(key), std::string(fallback), what_);
}

std::vector<std::string> ConfigReader::texts(ConfigKey key) const {
  std::vector<std::string> values;
  if (!has(key)) return values;
  const Json& list = config_[name_of(key)];
  if (!list.is_array()) malformed(shown(key) + " must be a list of names");
  for (const Json& value : list) {
    if (!value.is_string()) malformed(shown(key) + " must be a list of names");
    values.push_back(value.get<std::string>());
  }
  return values;
}

std::vector<std::int64_t> ConfigReader::integers(ConfigKey key) const {
  std::vector<std::int64_t> values;
  if (!has(key)) return values;
  const Json& list = config_[name_of(key)];
  if (!list.is_array()) malformed(shown(key) + " must be a list of integers");
  for (const Json& value : list) {
    if (!value.is_number_integer()) malformed(shown(key) + " must be a list of integers");
    values.push_back(value.get<std::int64_t>());
  }
  return values;
}

ConfigReader ConfigReader::object(ConfigKey key) const {
  const std::string path = (path_.empty() ? "" : path_ + ".") + name_of(key);
  return has(key) ? ConfigReader(config_[name_of(key)], path) : ConfigReader(empty_object(), path);
}

void ConfigReader::malformed(const std::string& message) const {
  throw Error(ExitCode::kMalformed, what_ + ": " + message);
}

void ConfigReader::unsupported(ConfigKey key, const std::string& why) const {
  const auto found = config_.find(name_of(key));
  const std::string value =
      found == config_.end()
          ? "absent"
          : escaped(found->dump(-1, ' ', true, Json::error_handler_t::replace)).substr(0, 60);
  throw Error(ExitCode::kUnsupported, what_ + ": " + shown(key) + " is " + value + ": " + why);
}

void ConfigReader::refuse_if(ConfigKey key, const std::string& why) const {
  if (flag(key, false)) unsupported(key, why);
}

}  // namespace qtool
