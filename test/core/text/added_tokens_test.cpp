#include "core/text/added_tokens.h"

#include <catch2/catch.hpp>

#include "core/error.h"

using namespace qtool;

namespace {

// "[token]" for tokens, text as it is, a bar between.
std::string found(const AddedTokens& tokens, const std::string& text, bool normalized = false) {
  std::string out;
  for (const Segment& segment : tokens.find(text, normalized)) {
    const std::string part = text.substr(segment.span.begin, segment.span.end - segment.span.begin);
    out += (out.empty() ? "" : "|") + (segment.token ? "[" + part + "]" : part);
  }
  return out;
}

AddedToken token(const std::string& content, TokenId id) {
  AddedToken result;
  result.content = content;
  result.id = id;
  return result;
}

}  // namespace

TEST_CASE("the leftmost of the longest tokens is found") {
  const AddedTokens tokens({token("<a>", 1), token("<a><b>", 2), token("b", 3)}, {});
  CHECK(found(tokens, "x<a>y") == "x|[<a>]|y");
  CHECK(found(tokens, "<a><b><a>") == "[<a><b>]|[<a>]");
  CHECK(found(tokens, "<a><") == "[<a>]|<");
  CHECK(found(tokens, "").empty());
  CHECK(found(tokens, "nothing") == "nothing");
}

TEST_CASE("tokens swallow white space as they are told") {
  AddedToken left = token("<l>", 1);
  left.lstrip = true;
  AddedToken right = token("<r>", 2);
  right.rstrip = true;
  const AddedTokens tokens({left, right}, {});
  CHECK(found(tokens, "a  <l>  b") == "a|[  <l>]|  b");
  CHECK(found(tokens, "a  <r>\u3000\n b") == "a  |[<r>\u3000\n ]|b");
  CHECK(found(tokens, "<r>  <l>") == "[<r>  ]|[<l>]");
}

TEST_CASE("single words stand between characters that are not of words") {
  AddedToken word = token("the", 1);
  word.single_word = true;
  const AddedTokens tokens({word}, {});
  CHECK(found(tokens, "the then, the!") == "[the]| then, |[the]|!");
  CHECK(found(tokens, "\u00E9the the\u0301") == "\u00E9the the\u0301");
}

TEST_CASE("normalized tokens are looked for in normalized text") {
  AddedToken normal = token("Paris", 1);
  normal.normalized = true;
  const AddedTokens tokens({normal, token("Rome", 2)}, {NormalizeLowercase{}});
  CHECK(found(tokens, "in paris", true) == "in |[paris]");
  CHECK(found(tokens, "in paris Rome", false) == "in paris |[Rome]");
}

TEST_CASE("what is added twice or is huge is malformed") {
  CHECK_THROWS_AS(AddedTokens({token("a", 1), token("b", 1)}, {}), Error);
  CHECK_THROWS_AS(AddedTokens({token("a", 1), token("a", 2)}, {}), Error);
  CHECK_THROWS_AS(AddedTokens({token(std::string(5000, 'a'), 1)}, {}), Error);
}
