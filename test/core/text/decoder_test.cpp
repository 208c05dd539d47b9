#include "core/text/decoder.h"

#include <catch2/catch.hpp>

using namespace qtool;

namespace {

using Texts = std::vector<std::string>;

const std::vector<DecoderStep> kLlama2{DecodeReplace{std::string("\u2581"), " "}, DecodeByteFallback{},
                                       DecodeFuse{}, DecodeStrip{" ", 1, 0}};

// What each push gives, and finish() as the last.
Texts run(const std::vector<DecoderStep>& steps, const Texts& tokens, const Texts& prompt = {}) {
  DecoderRun decoder(steps);
  for (const std::string& token : prompt) decoder.push(token);
  decoder.forget_output();
  Texts out;
  for (const std::string& token : tokens) out.push_back(decoder.push(token));
  out.push_back(decoder.finish());
  return out;
}

}  // namespace

TEST_CASE("characters split across tokens come out whole") {
  const std::vector<DecoderStep> steps{DecodeByteLevel{}};
  // "ðŁĺĢ" spells the four bytes of U+1F600.
  CHECK(run(steps, {"a\u00F0\u0141", "\u013A", "\u0122b"}) == Texts{"a", "", "\U0001F600b", ""});
  CHECK(run(steps, {"\u00F0\u0141", "x"}) == Texts{"", "\uFFFDx", ""});
  CHECK(run(steps, {"\u00F0\u0141"}) == Texts{"", "\uFFFD"});
  CHECK(run(steps, {"not of the alphabet: \u4E2D"}) == Texts{"not of the alphabet: \u4E2D", ""});
}

TEST_CASE("a run of byte tokens is characters as a whole or not at all") {
  CHECK(run(kLlama2, {"\u2581a", "<0xC3>", "<0xA9>", "b"}) == Texts{"a", "", "", "\u00E9b", ""});
  CHECK(run(kLlama2, {"x", "<0xC3>", "<0xA9>", "<0xC3>", "b"}) ==
        Texts{"x", "", "", "", "\uFFFD\uFFFD\uFFFDb", ""});
  CHECK(run(kLlama2, {"<0x0A>"}) == Texts{"", "\n"});
  CHECK(run(kLlama2, {"<0xZZ>"}) == Texts{"<0xZZ>", ""});
}

TEST_CASE("only the beginning of the text loses its space") {
  CHECK(run(kLlama2, {"\u2581Paris", "\u2581is"}) == Texts{"Paris", " is", ""});
  CHECK(run(kLlama2, {"\u2581Paris", "\u2581is"}, {"\u2581in"}) == Texts{" Paris", " is", ""});
  CHECK(run(kLlama2, {"\u2581\u2581Paris"}) == Texts{" Paris", ""});
  CHECK(run(kLlama2, {"\u2581", "\u2581x"}) == Texts{"", " x", ""});
  const std::vector<DecoderStep> metaspace{DecodeMetaspace{"\u2581", true}};
  CHECK(run(metaspace, {"\u2581a\u2581b", "\u2581c"}) == Texts{"ab", " c", ""});
  CHECK(run(metaspace, {"\u2581c"}, {"\u2581a"}) == Texts{" c", ""});
}

TEST_CASE("bytes that the prompt left unfinished are completed or forgotten") {
  CHECK(run(kLlama2, {"b"}, {"a", "<0x0A>"}) == Texts{"b", ""});  // the newline is the prompt's
  CHECK(run(kLlama2, {"<0xA9>", "b"}, {"a", "<0xC3>"}) == Texts{"", "\u00E9b", ""});
  CHECK(run(kLlama2, {"b"}, {"a", "<0xC3>"}) == Texts{"b", ""});
  const std::vector<DecoderStep> bytes{DecodeByteLevel{}};
  CHECK(run(bytes, {"\u013A\u0122"}, {"\u00F0\u0141"}) == Texts{"\U0001F600", ""});
  CHECK(run(bytes, {"x"}, {"\u00F0\u0141"}) == Texts{"x", ""});
  CHECK(run(bytes, {}, {"\u00F0\u0141"}) == Texts{""});
}

TEST_CASE("steps that need all of a token wait for it") {
  const std::vector<DecoderStep> steps{DecodeFuse{}, DecodeReplace{std::string("ab"), "X"},
                                       DecodeStrip{".", 1, 2}};
  CHECK(run(steps, {".a", "b.", ".."}) == Texts{"", "", "", "X."});
  CHECK(run({DecodeJoin{" "}}, {"a", "b"}) == Texts{"a", " b", ""});
}

TEST_CASE("a word's end is a space unless the text ends with it") {
  const std::vector<DecoderStep> steps{DecodeWordEnd{"</w>"}};
  CHECK(run(steps, {"low", "er</w>", "new</w>"}) == Texts{"", "low", "er ", "new"});
  CHECK(run(steps, {"new</w>"}, {"low</w>"}) == Texts{" ", "new"});
  CHECK(run(steps, {"er</w>"}, {"low"}) == Texts{"", "er"});
  const std::vector<DecoderStep> fused{DecodeFuse{}, DecodeWordEnd{"</w>"}};
  CHECK(run(fused, {"low</w>", "er</w>"}) == Texts{"", "", "lower"});
}
