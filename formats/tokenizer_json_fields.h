// Typed access to the fields of tokenizer.json, and the sentences when they are not what they should be.
#pragma once

#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/text/added_tokens.h"
#include "formats/json.h"

namespace qtool::tokenizer_json {

inline Error malformed(const std::string& where, const std::string& why) {
  return Error(ExitCode::kMalformed, where + ": " + why);
}

inline const Json& member(const Json& object, const char* key, const std::string& where) {
  const auto row = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || row == object.end())
    throw malformed(where, std::string("'") + key + "' is missing");
  return *row;
}

// Absent and null are the same in this format.
inline bool has(const Json& object, const char* key) {
  const auto row = object.find(key);
  return row != object.end() && !row->is_null();
}

inline const std::string& text(const Json& value, const std::string& where) {
  if (!value.is_string())
    throw malformed(where, "must be a string, is " + escaped(value.dump()).substr(0, 80));
  return value.get_ref<const std::string&>();
}

inline const std::string& text(const Json& object, const char* key, const std::string& where) {
  return text(member(object, key, where), where + ": '" + key + "'");
}

inline const Json& list(const Json& object, const char* key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_array()) throw malformed(where, std::string("'") + key + "' must be a list");
  return value;
}

inline TokenId token_id(const Json& value, const std::string& where) {
  if (!value.is_number_integer() || value < 0 || value > std::numeric_limits<TokenId>::max())
    throw malformed(
        where, "a token id must be an integer from 0 to 2^31-1, is " + escaped(value.dump()).substr(0, 80));
  return value.get<TokenId>();
}

// An added token's content and flags, which several files write alike; its id is not among them.
inline AddedToken added_token(const Json& row, const std::string& where) {
  AddedToken token;
  token.content = text(row, "content", where);
  token.single_word = optional_bool(row, "single_word", false, where);
  token.lstrip = optional_bool(row, "lstrip", false, where);
  token.rstrip = optional_bool(row, "rstrip", false, where);
  token.special = optional_bool(row, "special", false, where);
  token.normalized = optional_bool(row, "normalized", !token.special, where);
  return token;
}

// A character count of a Strip step.
inline int small_count(const Json& object, const char* key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_number_integer() || value < 0 || value > 1024)
    throw malformed(where, std::string("'") + key + "' must be an integer from 0 to 1024");
  return value.get<int>();
}

// A part whose type qtool does not know.
inline Error unknown(const std::string& where, const std::string& part, const std::string& type,
                     const std::string& known) {
  return Error(ExitCode::kUnsupported, where + ": the " + part + " '" + escaped(type).substr(0, 80) +
                                           "' is not supported; known are " + known);
}

}  // namespace qtool::tokenizer_json
