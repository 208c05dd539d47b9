// What is shown of text that strangers wrote.
#include "core/error.h"

#include <catch2/catch.hpp>

using namespace qtool;

TEST_CASE("what moves a terminal's cursor or turns the reading direction is escaped") {
  CHECK(escaped("model.layers.0") == "model.layers.0");
  CHECK(escaped("a\nb\tc\r") == "a\\nb\\tc\\r");
  CHECK(escaped("\x1b[2J\x07\x7f") == "\\x1b[2J\\x07\\x7f");
  CHECK(escaped(std::string_view("a\0b", 3)) == "a\\x00b");
  CHECK(escaped("\u0085\u009b") == "\\xc2\\x85\\xc2\\x9b");          // controls of two bytes
  CHECK(escaped("\u202egnp.exe\u202c") == "\\u202egnp.exe\\u202c");  // an override and its end
  CHECK(escaped("\u2066x\u2069\u200f\u061c") == "\\u2066x\\u2069\\u200f\\u061c");
  CHECK(escaped("a\u200bb\ufeffc\u00add\u2028e") == "a\\u200bb\\ufeffc\\u00add\\u2028e");  // hidden in a name
  CHECK(escaped("\U000e0041") == "\\U000e0041");                                           // a tag
}

TEST_CASE("other scripts are shown as they are") {
  const std::string text =
      "gr\u00fc\u00dfe \u043c\u043e\u0434\u0435\u043b\u044c \u6a21\u578b \u0928\u092e \U0001f600";
  CHECK(escaped(text) == text);
}

TEST_CASE("what is no UTF-8 is shown byte by byte") {
  CHECK(escaped("\xff\xfe") == "\\xff\\xfe");
  CHECK(escaped("a\xc0\xaf") == "a\\xc0\\xaf");                  // overlong
  CHECK(escaped("\xed\xa0\x80") == "\\xed\\xa0\\x80");           // a surrogate
  CHECK(escaped("\xe2\x82") == "\\xe2\\x82");                    // cut off
  CHECK(escaped("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // beyond Unicode
}

TEST_CASE("escaping twice changes nothing") {
  for (const char* text : {"\x1b[31m", "\u202e", "\xff", "a\nb", "\U000e0041"})
    CHECK(escaped(escaped(text)) == escaped(text));
}
