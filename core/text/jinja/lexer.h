// A template's text cut into tokens, with the whitespace rules that Hugging Face sets: trim_blocks (the line
// end behind a tag goes) and lstrip_blocks (the blanks in front of a tag that begins its line go), "-" and
// "+" in tags over them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/limits.h"

namespace qtool::jinja {

enum class TokenKind : std::uint8_t {
  kData,           // text to be printed as it is
  kBlockBegin,     // {%
  kBlockEnd,       // %}
  kVariableBegin,  // {{
  kVariableEnd,    // }}
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string text;  // data; the name; a string's content; digits; an operator
  int line;
};

// `source` with its last line end dropped, as tokens; the last is kEnd. Errors: kMalformed, naming the line.
std::vector<Token> tokenize(std::string_view source);

// A token as an error names it.
std::string described(const Token& token);

}  // namespace qtool::jinja
