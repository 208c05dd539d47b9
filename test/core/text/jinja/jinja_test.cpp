// The template language: what jinja2 makes of small templates (test/data/jinja/language.txt, written by
// scripts/compare_chat_templates with jinja2 3.1.6 as transformers sets it up), and what bounds a hostile
// one.
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "core/text/jinja/interpreter.h"
#include "core/text/jinja/parser.h"
#include "test/support/paths.h"

using namespace qtool;
using jinja::Value;

namespace {

std::string rendered(const std::string& source, jinja::Names names = {}) {
  const jinja::Body body = jinja::parse(source);
  return jinja::Interpreter(std::move(names), std::tm{}).render(body);
}

// The code and the sentence that a template fails with.
std::pair<ExitCode, std::string> failure(const std::string& source, jinja::Names names = {}) {
  try {
    rendered(source, std::move(names));
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ExitCode::kOk, ""};
}

bool fails(const std::string& source, ExitCode code, const std::string& part) {
  const auto [got, sentence] = failure(source);
  INFO(source.substr(0, 200) << " fails with " << static_cast<int>(got) << ": " << sentence);
  CHECK(got == code);
  CHECK_THAT(sentence, Catch::Contains(part));
  return got == code;
}

std::string times(int count, const std::string& text) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

// JSON read as an expression of the language, which it nearly is.
Value from_json(const std::string& text) {
  const jinja::Body body = jinja::parse("{% set x = " + text + " %}");
  return jinja::Interpreter({{"null", Value()}}, std::tm{}).evaluate(*body.at(0).value);
}

}  // namespace

TEST_CASE("every construct renders as jinja2 renders it") {
  std::ifstream file(test::data("jinja/language.txt"), std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  const std::string text = content.str();
  jinja::Names names;
  std::size_t at = text.find('\n');
  const Value context = from_json(text.substr(0, at));
  for (const auto& [name, value] : context.dict()->entries) names.emplace_back(*name.text(), value);

  int cases = 0, refused = 0;
  for (++at; text.compare(at, 5, "=== \n") == 0; ++cases) {
    const std::size_t middle = text.find("\n--- ", at);
    const std::size_t end = std::min(text.find("\n=== \n", middle), text.size() - 1);
    const std::string source = text.substr(at + 5, middle - at - 5);
    const std::string wanted = text.substr(middle + 5, end - middle - 5);
    at = end + 1;
    INFO(source);
    if (wanted == "error") {
      ++refused;
      CHECK(failure(source, names).first != ExitCode::kOk);
    } else {
      CHECK("\n" + rendered(source, names) == wanted);
    }
  }
  CHECK(cases > 700);
  CHECK(refused > 100);
}

TEST_CASE("errors name the line and the construct") {
  fails("a\nb\n{{ 1 + }}", ExitCode::kMalformed, "line 3: expected an expression, found '}}'");
  fails("{% if x %}\n{% for %}", ExitCode::kMalformed, "line 2");
  fails("\n{% include 'x' %}", ExitCode::kUnsupported, "line 2: the tag {% include %}");
  fails("{% frobnicate %}", ExitCode::kUnsupported, "the tag {% frobnicate %} is not known");
  fails("{% for x in y recursive %}{% endfor %}", ExitCode::kUnsupported, "recursive");
  fails("\n\n{{ 'x'|frobnicate }}", ExitCode::kUnsupported, "line 3: the filter 'frobnicate' is not known");
  fails("{{ 'x'|urlize }}", ExitCode::kUnsupported, "the filter 'urlize' is not supported");
  fails("{{ 1 is frobnicated }}", ExitCode::kUnsupported, "the test 'is frobnicated'");
  fails("{{ 'x'.encode() }}", ExitCode::kUnsupported, "the method 'encode' of str");
  fails("{{ messages[0].role }}", ExitCode::kMalformed, "'messages' is undefined");
  fails("{{ [].append(1) }}", ExitCode::kMalformed, "'list.append' is unsafe");
  fails("{{ 9223372036854775807 + 1 }}", ExitCode::kMalformed, "does not fit 64 bits");
  fails("{{ 99999999999999999999 }}", ExitCode::kUnsupported, "does not fit 64 bits");
  fails("\xff", ExitCode::kMalformed, "UTF-8");
  fails("{{ raise_exception('roles must\nalternate') }}", ExitCode::kUsage,
        "the chat template refuses these messages: roles must\\nalternate");
}

TEST_CASE("a hostile template ends in an error, soon") {
  fails(times(6, "{% for a in range(50) %}") + "{% set x = 1 + 1 + 1 + 1 + 1 %}" + times(6, "{% endfor %}"),
        ExitCode::kMalformed, "runs too long");
  fails("{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        ExitCode::kMalformed, "more than 128 MiB");
  fails("{{ 'x' * 9000000000000000000 }}", ExitCode::kMalformed, "128 MiB");
  fails("{{ ['x'] * 9000000000000000000 }}", ExitCode::kMalformed, "too long");
  fails("{{ 'x'.ljust(9000000000000) }}", ExitCode::kMalformed, "128 MiB");
  fails("{% set n = namespace(l=[]) %}{% for i in range(999) %}{% set n.l = [n.l] %}{% endfor %}",
        ExitCode::kMalformed, "nested deeper");
  fails("{% set n = namespace(l=[1]) %}{% for i in range(99) %}{% set n.l = [n.l, n.l] %}{% endfor %}",
        ExitCode::kMalformed, "holds more than");
  fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ExitCode::kMalformed, "too deeply");
  fails("{{ " + times(50000, "(") + times(50000, ")") + " }}", ExitCode::kMalformed, "nested deeper");
  fails("{{ 1" + times(100000, " + 1") + " }}", ExitCode::kMalformed, "nested or chained");
  fails("{{ x" + times(100000, ".x") + " }}", ExitCode::kMalformed, "nested or chained");
  fails("{{ " + times(100000, "not ") + " 1 }}", ExitCode::kMalformed, "nested deeper");
  fails("{{ " + times(100000, "-") + " 1 }}", ExitCode::kMalformed, "nested deeper");
  fails("{{ " + times(50000, "f(a=") + times(50000, ")") + " }}", ExitCode::kMalformed, "nested deeper");
  fails(times(50000, "{% if 1 %}"), ExitCode::kMalformed, "nested deeper");
  fails(std::string(2 << 20, 'x'), ExitCode::kMalformed, "larger than 1 MiB");
  fails("{{ range(10 ** 9) }}", ExitCode::kMalformed, "range() of more than");
  fails("{% set n = namespace(s='x' * 60000000) %}{{ n.s }}{{ n.s }}", ExitCode::kMalformed, "64 MiB");
}

TEST_CASE("what holds itself is released") {
  // A namespace in itself, a macro in the scope it sees, a loop that remembers itself: leaks under a
  // sanitizer.
  CHECK(rendered("{% set n = namespace() %}{% set n.self = n %}{% set n.list = [n] %}{{ "
                 "n.self.self.list|length }}") == "1");
  CHECK(rendered("{% macro f() %}{{ x }}{% endmacro %}{% set x = f %}{% set y = [f] %}{{ y|length }}") ==
        "1");
  CHECK(rendered("{% for i in [1] %}{{ loop.changed(loop) }}{% endfor %}") == "True");
}

TEST_CASE("line ends of a template are plain, the last one goes") {
  CHECK(rendered("a\r\nb\rc\r\n") == "a\nb\nc");
  CHECK(rendered("a\n\n") == "a\n");
  CHECK(rendered("{{ 'a\r\nb' }}") == "a\nb");
}

TEST_CASE("strftime_now tells the time it is given, as Python formats it") {
  std::tm when = {};
  when.tm_year = 124;
  when.tm_mon = 6;
  when.tm_mday = 5;
  when.tm_hour = 7;
  when.tm_min = 8;
  when.tm_sec = 9;
  const jinja::Body body = jinja::parse("{{ strftime_now('%d %b %Y|%Y-%m-%d %H:%M:%S|%B|%%d|%Z%z') }}");
  CHECK(jinja::Interpreter({}, when).render(body) == "05 Jul 2024|2024-07-05 07:08:09|July|%d|");
}
