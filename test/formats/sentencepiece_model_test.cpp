// tokenizer.model in sentencepiece's form: what it says, which class reads it how, and damage.
#include "formats/sentencepiece_model.h"

#include <catch2/catch.hpp>
#include <random>

#include "core/error.h"
#include "formats/file.h"
#include "formats/sentencepiece_fields.h"
#include "test/support/paths.h"

using namespace qtool;

namespace {

using Ids = std::vector<TokenId>;

std::string demo() { return read_file(test::data("demo/tokenizer.model")); }

ExitCode code_of(const std::string& content, const TokenizerConfig& config = {}) {
  try {
    make_tokenizer(parts_from_sentencepiece(content, config, "tokenizer.model"));
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::kOk;
}

// A field of a protocol buffer: key, length, bytes.
std::string field(int number, const std::string& bytes) {
  return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(bytes.size()) + bytes;
}
std::string number_field(int number, int value) {
  std::string key;
  for (unsigned rest = static_cast<unsigned>(number) << 3; rest > 0 || key.empty(); rest >>= 7)
    key += static_cast<char>((rest & 0x7F) | (rest > 0x7F ? 0x80 : 0));
  return key + static_cast<char>(value);
}
std::string piece(const std::string& text, int type) {
  return field(1, field(1, text) + number_field(3, type));
}

const std::string kUnknown = piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3);

}  // namespace

TEST_CASE("fields that the library does not give are read with their defaults") {
  const SentencePieceFields silent = read_sentencepiece_fields(kUnknown, "x");
  CHECK(silent.user_defined.empty());
  CHECK(silent.model_type == SentencePieceFields::ModelType::kUnigram);
  CHECK_FALSE(silent.treat_whitespace_as_suffix);
  CHECK(silent.precompiled_charsmap.empty());
  CHECK(silent.add_dummy_prefix);
  CHECK(silent.segmentation == kUnknown);

  const std::string needed = kUnknown + piece("a", 4) + piece("b", 1) + piece("c", 4) +
                             field(2, number_field(3, 2) + number_field(24, 1));
  const SentencePieceFields fields = read_sentencepiece_fields(
      needed + field(3, field(2, "map") + number_field(3, 0)) + field(4, "self-tests"), "x");
  CHECK(fields.user_defined == Ids{3, 5});
  CHECK(fields.model_type == SentencePieceFields::ModelType::kBpe);
  CHECK(fields.treat_whitespace_as_suffix);
  CHECK(fields.precompiled_charsmap == "map");
  CHECK_FALSE(fields.add_dummy_prefix);
  CHECK(fields.segmentation == needed);
}

TEST_CASE("the tokenizer's class decides about the space in front, BOS and decoding") {
  const auto loaded = [](const char* tokenizer_class) {
    TokenizerConfig config;
    config.tokenizer_class = tokenizer_class;
    return make_tokenizer(parts_from_sentencepiece(demo(), config, "tokenizer.model"));
  };
  for (const char* name : {"", "LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer"}) {
    CHECK(loaded(name)->encode("The capital", true) == Ids{1, 398, 605});
    CHECK(loaded(name)->decode(Ids{398, 605}, true) == "The capital");
  }
  CHECK(loaded("GemmaTokenizer")->encode(" The capital", true) == Ids{1, 398, 605});
  CHECK(loaded("GemmaTokenizer")->decode(Ids{398, 605}, true) == " The capital");
  CHECK(loaded("PreTrainedTokenizerFast")->encode(" The capital", true) == Ids{398, 605});
  TokenizerConfig t5;
  t5.tokenizer_class = "T5Tokenizer";
  CHECK(code_of(demo(), t5) == ExitCode::kUnsupported);
}

TEST_CASE("pieces of the user's own are found first, and are not special") {
  const auto tokenizer = make_tokenizer(parts_from_sentencepiece(
      read_file(test::data("tokenizers/unigram-llama/tokenizer.model")), {}, "tokenizer.model"));
  const TokenId id = tokenizer->id_of("<|user|>").value();
  const Ids ids = tokenizer->encode("a<|user|>b", false);
  CHECK(std::count(ids.begin(), ids.end(), id) == 1);
  CHECK_FALSE(tokenizer->is_special(id));
  CHECK(tokenizer->is_special(tokenizer->id_of("</s>").value()));
  CHECK(tokenizer->kind() == "sentencepiece Unigram");
}

TEST_CASE("models of words or characters are refused") {
  const std::string pieces = kUnknown + piece("a", 1);
  for (const int type : {3, 4})
    CHECK(code_of(pieces + field(2, number_field(3, type))) == ExitCode::kUnsupported);
  CHECK(code_of(pieces + field(2, number_field(24, 1))) == ExitCode::kUnsupported);
  CHECK(code_of(pieces + field(2, number_field(3, 2))) == ExitCode::kOk);
  CHECK(code_of(pieces) == ExitCode::kOk);
}

TEST_CASE("the user's own pieces may begin with each other as often as the library bears") {
  std::string bytes = kUnknown;
  for (std::size_t length = 1; length <= 64; ++length) bytes += piece(std::string(length, 'a'), 4);
  const auto tokenizer = make_tokenizer(parts_from_sentencepiece(bytes + piece("b", 1), {}, "x"));
  CHECK(tokenizer->encode(std::string(64, 'a') + "b", false).back() == 67);
  CHECK(code_of(bytes + piece("ab", 4)) == ExitCode::kOk);
  CHECK(code_of(bytes + piece(std::string(65, 'a'), 4)) == ExitCode::kUnsupported);
  // Zero bytes hide from the library what comes behind them.
  std::string hidden = kUnknown;
  for (std::size_t length = 1; length <= 65; ++length)
    hidden += piece(std::string(length, 'a') + std::string(1, '\0'), 4);
  CHECK(code_of(hidden + piece("b", 1)) == ExitCode::kUnsupported);
  CHECK(code_of(kUnknown + piece(std::string(1, '\0'), 1)) == ExitCode::kMalformed);
}

TEST_CASE("self-tests of the whole model do not hold its segmentation back") {
  const std::string sample = field(1, field(1, "a") + field(2, "something else"));
  CHECK(code_of(kUnknown + piece("a", 1) + field(4, sample)) == ExitCode::kOk);
}

TEST_CASE("a control piece that stands for a space cannot cut text") {
  const auto tokenizer = make_tokenizer(parts_from_sentencepiece(
      kUnknown + piece("a", 1) + piece("\u2581", 3) + field(2, number_field(3, 2)), {}, "tokenizer.model"));
  try {
    tokenizer->encode("a a", false);
    FAIL("text was cut");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kMalformed);
  }
}

TEST_CASE("damaged sentencepiece models are malformed") {
  const std::string whole = demo();
  CHECK(code_of(whole) == ExitCode::kOk);
  const std::string pieces = kUnknown + piece("a", 1);
  for (const std::string& bytes :
       {std::string(), std::string("no protocol buffer"), whole.substr(0, whole.size() / 2 + 3),
        piece("a", 1), kUnknown, pieces + piece("a", 1), pieces + piece("", 1), pieces + piece("<unk2>", 2),
        pieces + piece("\xFF", 1), pieces + piece("<0x00>", 6), pieces + field(2, number_field(35, 1)),
        pieces +
            field(1, field(1, "b") + std::string("\x15\x00\x00\xC0\x7F", 5)),  // a score that is no number
        pieces + std::string(11, '\xFF'), pieces + "\x0A\x7F", pieces + "\x0B",
        pieces + std::string("\x8A\x80\x80\x80\x10\x00", 6)})  // a key of 33 bits
    CHECK(code_of(bytes) == ExitCode::kMalformed);
}

TEST_CASE("a model with any byte changed is read or refused, never more") {
  const std::string whole = read_file(test::data("tokenizers/unigram-backend/tokenizer.model"));
  TokenizerConfig config;
  config.tokenizer_class = "PreTrainedTokenizerFast";
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::string bytes = whole;
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random() % 256);
    try {
      make_tokenizer(parts_from_sentencepiece(bytes, config, "x"))
          ->encode("caf\u00E9 \uFB01 \uFF21\t\u2026 ab", true);
    } catch (const Error& error) {
      CHECK(error.code() != ExitCode::kInternal);
    }
  }
}
