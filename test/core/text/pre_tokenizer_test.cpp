// Pieces as Hugging Face's `tokenizers` 0.22.2 cuts them (pre_tokenize_str).
#include "core/text/pre_tokenizer.h"

#include <catch2/catch.hpp>

#include "core/text/byte_alphabet.h"
#include "core/text/normalizer.h"

using namespace qtool;

namespace {

using Texts = std::vector<std::string>;

Texts cut(const std::vector<PreTokenizerStep>& steps, const std::string& text, bool at_start = true) {
  Pieces pieces = whole(text, at_start ? 1 : 0);
  pre_tokenize(steps, pieces);
  Texts result;
  for (const Span& span : pieces.spans)
    result.push_back(pieces.text.substr(span.begin, span.end - span.begin));
  return result;
}

}  // namespace

TEST_CASE("Split has five behaviours") {
  const auto by = [](SplitBehavior behavior, bool invert = false) {
    return cut({SplitByPattern{std::string("-"), behavior, invert}}, "the-final--countdown");
  };
  CHECK(by(SplitBehavior::kRemoved) == Texts{"the", "final", "countdown"});
  CHECK(by(SplitBehavior::kIsolated) == Texts{"the", "-", "final", "-", "-", "countdown"});
  CHECK(by(SplitBehavior::kMergedWithPrevious) == Texts{"the-", "final-", "-", "countdown"});
  CHECK(by(SplitBehavior::kMergedWithNext) == Texts{"the", "-final", "-", "-countdown"});
  CHECK(by(SplitBehavior::kContiguous) == Texts{"the", "-", "final", "--", "countdown"});
  CHECK(by(SplitBehavior::kRemoved, true) == Texts{"-", "-", "-"});
}

TEST_CASE("Metaspace puts its sign where the scheme says") {
  const std::string sign = "\u2581";
  const auto by = [&sign](PrependScheme scheme, bool split, const std::string& text, bool at_start = true) {
    return cut({Metaspace{sign, scheme, split}}, text, at_start);
  };
  CHECK(by(PrependScheme::kAlways, true, "a b") == Texts{sign + "a", sign + "b"});
  CHECK(by(PrependScheme::kFirst, false, "a  b") == Texts{sign + "a" + sign + sign + "b"});
  CHECK(by(PrependScheme::kFirst, false, " a") == Texts{sign + "a"});
  CHECK(by(PrependScheme::kFirst, false, "a", false) == Texts{"a"});
  CHECK(by(PrependScheme::kNever, false, "a b") == Texts{"a" + sign + "b"});
}

TEST_CASE("bytes are spelled in GPT-2's alphabet") {
  CHECK(cut({SplitByPattern{gpt2_pattern(), SplitBehavior::kIsolated, false}, BytesToChars{}},
            "Hi  you're \u00E9!\n") ==
        Texts{"Hi", "\u0120", "\u0120you", "'re", "\u0120\u00C3\u00A9", "!", "\u010A"});
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::string one(1, static_cast<char>(static_cast<unsigned char>(byte)));
    std::string spelled;
    append_bytes_as_chars(one, spelled);
    CHECK(bytes_from_chars(spelled) == one);
  }
  CHECK_FALSE(bytes_from_chars("a b"));
}

TEST_CASE("characters are classed as the reference does") {
  CHECK(cut({SplitByClass{CharClass::kNumeric, SplitBehavior::kContiguous}}, "a12\u00BDb") ==
        Texts{"a", "12\u00BD", "b"});
  CHECK(cut({SplitByClass{CharClass::kPunctuation, SplitBehavior::kIsolated}}, "a$!\u2019b") ==
        Texts{"a", "$", "!", "\u2019", "b"});
  CHECK(cut({SplitByClass{CharClass::kWhitespace, SplitBehavior::kRemoved}}, " a\u3000b\n") ==
        Texts{"a", "b"});
  CHECK_FALSE(is_in(CharClass::kPunctuation, 0x0C84));  // punctuation since Unicode 11
  CHECK(is_in(CharClass::kPunctuation, 0x166D));        // until Unicode 12
  CHECK(is_in(CharClass::kWord, 0x24B6));
}

TEST_CASE("normalizers") {
  const auto by = [](NormalizerStep step, const std::string& text) {
    return normalize({std::move(step)}, text).text;
  };
  CHECK(by(NormalizeForm{NormalForm::kNfc}, "e\u0301") == "\u00E9");
  CHECK(by(NormalizeForm{NormalForm::kNfd}, "\u00E9") == "e\u0301");
  CHECK(by(NormalizeForm{NormalForm::kNfkc}, "\uFB01\u00B2") == "fi2");
  CHECK(by(NormalizeForm{NormalForm::kNfkd}, "\u212B") == "A\u030A");
  // Unicode 14 gave U+1AC7 a combining class, 12 gave U+32FF a decomposition: the reference knows neither.
  CHECK(by(NormalizeForm{NormalForm::kNfc}, "e\u05BA\u1AC7e\u0301") == "e\u05BA\u1AC7\u00E9");
  CHECK(by(NormalizeForm{NormalForm::kNfkc}, "\u32FF\uFB01") == "\u32FFfi");
  CHECK(by(NormalizeLowercase{}, "\u0130A\u03A3") == "i\u0307a\u03C3");
  CHECK(by(NormalizeLowercase{}, "\uA7DC\U00010D50") == "\u019B\U00010D70");  // since Unicode 16
  CHECK(by(NormalizeStripAccents{}, "e\u0301a") == "ea");
  CHECK(by(NormalizeStrip{true, false}, " \u3000a ") == "a ");
  CHECK(by(NormalizeStrip{false, true}, " a \n") == " a");
  CHECK(by(NormalizeStrip{true, true}, " \n").empty());
  CHECK(by(NormalizeNmt{}, "a\x07\u200Bb\n") == "a b ");
  CHECK(by(NormalizeByteLevel{}, "\u00E9 ") == "\u00C3\u00A9\u0120");
  CHECK(by(NormalizePrepend{"_"}, "").empty());
  CHECK(by(NormalizePrepend{"_"}, "a") == "_a");
  CHECK(by(NormalizeReplace{std::string("aa"), "b"}, "aaa") == "ba");
  CHECK(by(NormalizeReplace{Regex::from_oniguruma("\\d+"), "$1"}, "a12b") == "a$1b");
}

TEST_CASE("what came from the first character is known behind the normalizers") {
  const auto first = [](const std::vector<NormalizerStep>& steps, const std::string& text) {
    return normalize(steps, text).first_bytes;
  };
  CHECK(first({}, "ab") == 1);
  CHECK(first({NormalizeByteLevel{}}, "\u00E9b") == 4);
  CHECK(first({NormalizeStrip{true, false}}, " a") == 0);
  CHECK(first({NormalizeStripAccents{}}, "\u0301a") == 0);
  CHECK(first({NormalizePrepend{"__"}}, "ab") == 3);
  CHECK(first({NormalizeReplace{std::string("a"), "xyz"}}, "ab") == 3);
  CHECK(first({NormalizeReplace{std::string("ab"), "xyz"}}, "ab") == 0);  // stands for the second one
  CHECK(first({NormalizeForm{NormalForm::kNfc}}, "e\u0301b") == 2);
}
