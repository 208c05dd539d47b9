// Matches as Oniguruma finds them; the expected spans were checked with Hugging Face's `tokenizers` 0.22.2
// (Split, behavior Removed, inverted).
#include "core/text/regex.h"

#include <catch2/catch.hpp>

#include "core/error.h"

using namespace qtool;

namespace {

using Texts = std::vector<std::string>;

Texts matches(const std::string& pattern, const std::string& text) {
  std::vector<Span> spans;
  Regex::from_oniguruma(pattern).find_all(text, spans);
  Texts found;
  for (const Span& span : spans) found.push_back(text.substr(span.begin, span.end - span.begin));
  return found;
}

ExitCode code_of(const std::string& pattern) {
  try {
    Regex::from_oniguruma(pattern);
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::kOk;
}

}  // namespace

TEST_CASE("what Oniguruma writes differently means the same to PCRE2") {
  CHECK(matches(R"(\p{N}{1,3}+)", "12345 6") == Texts{"12345", "6"});
  CHECK(matches(R"(\p{N}{1,3})", "12345 6") == Texts{"123", "45", "6"});
  CHECK(matches(R"(a{,2})", "aaa").front() == "aa");
  CHECK(matches(R"(\h+)", "12 xyz fe") == Texts{"12", "fe"});
  CHECK(matches(R"([a-c&&[^b]])", "abcd") == Texts{"a", "c"});
  CHECK(matches(R"([^(\s|[.,!?])]+)", "(a|b) c.d?e)") == Texts{"a", "b", "c", "d", "e"});
  CHECK(matches(R"([a[^b]])", "abc") == Texts{"a", "c"});
  CHECK(matches(R"([\W])", "a-b") == Texts{"-"});
  CHECK(matches(R"(\u0041|\x{42})", "xAB") == Texts{"A", "B"});
  CHECK(matches(R"(^b)", "ab\nb") == Texts{"b"});
  CHECK(matches(R"((?m:a.b))", "a\nb") == Texts{"a\nb"});
  CHECK(matches(R"(a.b)", "a\nb").empty());
  CHECK(matches(R"([]a]+)", "b]a") == Texts{"]a"});
  CHECK(matches(R"(\bx)", "x ax \u0301x") == Texts{"x"});
}

TEST_CASE("classes are those of Unicode, not of PCRE2") {
  CHECK(matches(R"(\s)", "\u180E\u00A0\u0085") == Texts{"\u00A0", "\u0085"});
  CHECK(matches(R"([^\s])", "\u180E ") == Texts{"\u180E"});
  CHECK(matches(R"(\w+)", "e\u0301\u203Fx\u00B2") == Texts{"e\u0301\u203Fx\u00B2"});
  CHECK(matches(R"([\w]+)", "a\u00BDb\u00B2") ==
        Texts{"a", "b"});  // in brackets the signs of Latin-1 are no words
  CHECK(matches(R"(\p{Han}+)", "\u6F22\u323C") == Texts{"\u6F22"});
  CHECK(matches(R"(\p{^L}+)", "ab1") == Texts{"1"});
  CHECK(matches(R"([[:alpha:]]+)", "a\u24D0") == Texts{"a\u24D0"});
}

TEST_CASE("empty matches count once and never behind a match") {
  std::vector<Span> spans;
  Regex::from_oniguruma("x*").find_all("axb", spans);
  REQUIRE(spans.size() == 3);
  CHECK(spans[0].begin == 0);
  CHECK(spans[1].begin == 1);
  CHECK(spans[1].end == 2);
  CHECK(spans[2].begin == 3);
}

TEST_CASE("patterns that are wrong or beyond translation are refused") {
  for (const char* pattern : {"(a", "a)", "[a", "a\\", "\\x{41", "\\u00", "*a", "\\p{Nonsense}", "[[:alpha:"})
    CHECK(code_of(pattern) == ExitCode::kMalformed);
  for (const char* pattern : {"\\K", "\\pL", "(?s:a)", "(?<name>a)", "\\X", "[[:graph:]]"})
    CHECK(code_of(pattern) == ExitCode::kUnsupported);
  CHECK(code_of(std::string(100, '[') + "a" + std::string(100, ']')) == ExitCode::kUnsupported);
}

TEST_CASE("a pattern that would take for ever is given up") {
  const std::string text(100'000, 'a');
  CHECK_THROWS_AS(matches("(a+)+c|(a+)+$d", text), Error);
  CHECK_THROWS_AS(matches("(a|aa)+[bc]", text), Error);
  // A long run of blanks costs a step a byte in every published pattern and is no reason to give up.
  CHECK(matches(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", std::string(2'000'000, ' ') + "x").size() == 2);
}
