// The only door to JSON. Strict where files come from strangers: duplicate keys, depth and trailing text are
// errors, and every error names the file and the position.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/limits.h"

namespace qtool {

using Json = nlohmann::json;  // objects sorted by key

// How large a document of a kind may be: its bytes, and what its values take in memory.
struct JsonBounds {
  std::int64_t bytes = kMaxJsonBytes;
  std::int64_t memory = kMaxJsonMemory;
};
inline constexpr JsonBounds kIndexJson{kMaxIndexBytes, kMaxIndexMemory};
inline constexpr JsonBounds kTokenizerJson{kMaxTokenizerBytes, kMaxTokenizerMemory};

// Parses a whole document whose values take at most `max_memory` bytes. `what` names it in errors
// ("config.json"). Errors: kMalformed with line and column.
Json parse_json(std::string_view text, const std::string& what, std::int64_t max_memory = kMaxJsonMemory);

// The file's content as JSON. Errors: kNotFound, kIo, kMalformed.
Json read_json_file(const std::string& path, JsonBounds bounds = {});

// Typed access with a sentence on failure: "config.json: 'hidden_size' must be an integer, is \"big\"".
// `required_*` throw when the key is absent, `optional_*` return the fallback when it is absent or null.
std::int64_t required_int(const Json& object, const char* key, const std::string& what);
std::int64_t optional_int(const Json& object, const char* key, std::int64_t fallback,
                          const std::string& what);
double optional_number(const Json& object, const char* key, double fallback, const std::string& what);
bool optional_bool(const Json& object, const char* key, bool fallback, const std::string& what);
std::string optional_string(const Json& object, const char* key, const std::string& fallback,
                            const std::string& what);
std::vector<double> optional_numbers(const Json& object, const char* key, const std::string& what);

// json.dumps(value, indent=2, sort_keys=True) + "\n": how transformers writes config.json. ASCII only, floats
// as Python prints them.
std::string to_python_json(const Json& value);

}  // namespace qtool
