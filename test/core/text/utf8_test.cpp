#include "core/text/utf8.h"

#include <catch2/catch.hpp>

using namespace qtool;

TEST_CASE("every code point is written and read back") {
  std::size_t characters = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_code_point(text, c);
    std::size_t position = 0;
    characters +=
        is_valid_utf8(text) && next_code_point(text, position) == c && position == text.size() ? 1 : 0;
  }
  CHECK(characters == 0x110000 - 0x800);
}

TEST_CASE("broken bytes become one U+FFFD for each maximal subpart") {
  // Expected texts are Python's bytes.decode("utf-8", "replace").
  CHECK(to_valid_utf8("a\xF0\x9F\x98z") == "a\uFFFDz");
  CHECK(to_valid_utf8("\xF0\x9F") == "\uFFFD");
  CHECK(to_valid_utf8("\xC0\xAF") == "\uFFFD\uFFFD");
  CHECK(to_valid_utf8("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");
  CHECK(to_valid_utf8("\xE2\x82\xE2\x82\xAC") == "\uFFFD\u20AC");
  CHECK(to_valid_utf8("\xF4\x90\x80\x80") == "\uFFFD\uFFFD\uFFFD\uFFFD");
  CHECK(to_valid_utf8("whole \u20AC") == "whole \u20AC");
}

TEST_CASE("the tail that may yet become a character is found") {
  CHECK(unfinished_tail("") == 0);
  CHECK(unfinished_tail("abc") == 0);
  CHECK(unfinished_tail("a\xE2") == 1);
  CHECK(unfinished_tail("a\xE2\x82") == 2);
  CHECK(unfinished_tail("a\xE2\x82\xAC") == 0);
  CHECK(unfinished_tail("a\xF0\x9F\x98") == 3);
  CHECK(unfinished_tail("a\xFF") == 0);
  CHECK(unfinished_tail("\x82\x82\x82") == 0);
}
