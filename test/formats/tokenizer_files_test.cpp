// The forms older than tokenizer.json: vocab.json with merges.txt, and tiktoken ranks.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/base64.h"
#include "formats/json.h"
#include "formats/tiktoken.h"
#include "formats/vocab_merges.h"

using namespace qtool;

namespace {

using Ids = std::vector<TokenId>;

TokenizerConfig config_of(const std::string& tokenizer_class, const std::string& model_type = "") {
  TokenizerConfig config;
  config.tokenizer_class = tokenizer_class;
  config.model_type = model_type;
  return config;
}

const char* const kVocab =
    R"({"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3, "\u0120": 4, "\u0120a": 5, "<s>": 6})";
const char* const kMerges = "#version: 0.2\na b\n\u0120 a\n";

std::unique_ptr<Tokenizer> from_files(const TokenizerConfig& config, const std::string& merges = kMerges) {
  return make_tokenizer(parts_from_vocab_merges(parse_json(kVocab, "vocab.json"), merges, config));
}

// "a" 0, "b" 1, " " 2, "ab" 3, "1" 4, "11" 5
const char* const kRanks = "YQ== 0\nYg== 1\nIA== 2\nYWI= 3\nMQ== 4\nMTE= 5\n";

std::unique_ptr<Tokenizer> from_ranks(const TokenizerConfig& config, const std::string& ranks = kRanks) {
  return make_tokenizer(parts_from_tiktoken(ranks, config, "tokenizer.model"));
}

template <typename Make>
std::pair<ExitCode, std::string> failure(const Make& make) {
  try {
    make();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ExitCode::kOk, ""};
}

}  // namespace

TEST_CASE("GPT-2's files with the flags of the configuration") {
  const TokenizerConfig plain = config_of("GPT2Tokenizer");
  CHECK(from_files(plain)->encode("ab a<|endoftext|>", true) == Ids{3, 5, 0});
  CHECK(from_files(plain)->eos_id() == 0);
  CHECK(from_files(plain)->decode(Ids{3, 5}, true) == "ab a");
  TokenizerConfig flagged = plain;
  flagged.add_bos_token = true;
  flagged.add_eos_token = true;
  flagged.bos_token = "<s>";
  flagged.named_tokens = {AddedToken{.content = "<s>", .rstrip = true, .special = true}};
  flagged.add_prefix_space = true;
  CHECK(from_files(flagged)->encode("a", true) == Ids{6, 5, 0});
  CHECK(from_files(flagged)->encode("a", false) == Ids{5});
  CHECK(from_files(flagged)->encode("<s>  a", false) == Ids{6, 5});  // <s> swallows the blanks
  CHECK(from_files(plain, "#version: 0.2\r\na b\r\n\u0120 a\r\n")->encode("ab", true) == Ids{3});
}

TEST_CASE("without a class the model type decides") {
  for (const char* type :
       {"opt", "gpt2", "gpt_neo", "gptj", "phi", "starcoder2", "codegen", "qwen2", "qwen3_moe"})
    CHECK(from_files(config_of("", type))->encode("ab", true) == Ids{3});
  const auto [code, sentence] = failure([] { from_files(config_of("", "mystery")); });
  CHECK(code == ExitCode::kUnsupported);
  CHECK(sentence.find("known classes are GPT2Tokenizer, CodeGenTokenizer, Qwen2Tokenizer") !=
        std::string::npos);
  CHECK(failure([] { from_files(config_of("RobertaTokenizer")); }).first == ExitCode::kUnsupported);
}

TEST_CASE("Qwen's class composes characters and takes digits one by one") {
  const auto tokenizer = make_tokenizer(parts_from_vocab_merges(
      parse_json(R"({"1": 0, "11": 1, "\u00c3": 2, "\u00a9": 3, "\u00c3\u00a9": 4, "<|endoftext|>": 5})",
                 "vocab.json"),
      "1 1\n\u00c3 \u00a9\n", config_of("Qwen2Tokenizer")));
  CHECK(tokenizer->encode("11e\u0301", true) == Ids{0, 0, 4});
  CHECK_FALSE(tokenizer->bos_id());
}

TEST_CASE("damaged merges are malformed, by line") {
  for (const char* merges : {"a\n", "a b c\n", "a  b\n", "a b\n\na b\n", "a x\n", "b a\n"}) {
    const auto [code, sentence] = failure([&] { from_files(config_of("GPT2Tokenizer"), merges); });
    INFO(sentence);
    CHECK(code == ExitCode::kMalformed);
    CHECK(sentence.starts_with("merges.txt"));
  }
}

TEST_CASE("tiktoken ranks are read for the models whose pattern is known") {
  const auto llama = from_ranks(config_of("PreTrainedTokenizerFast", "llama"));
  CHECK(llama->encode("ab 11<|eot_id|>", true) == Ids{6, 3, 2, 5, 15});
  CHECK(llama->bos_id() == 6);
  CHECK(llama->decode(Ids{3, 2, 15}, true) == "ab ");
  TokenizerConfig silent = config_of("", "llama");
  silent.add_bos_token = false;
  CHECK(from_ranks(silent)->encode("ab", true) == Ids{3});
  const auto qwen = from_ranks(config_of("QWenTokenizer"));
  CHECK(qwen->encode("ab 11<|im_end|>", true) == Ids{3, 2, 4, 4, 8});
  CHECK(qwen->eos_id() == 6);
  for (const TokenizerConfig& config :
       {config_of("", "mystery"), config_of("ChatGLM4Tokenizer", "chatglm"), config_of("")}) {
    const auto [code, sentence] = failure([&] { from_ranks(config); });
    CHECK(code == ExitCode::kUnsupported);
    CHECK(sentence.find("Llama 3, Qwen") != std::string::npos);
  }
}

TEST_CASE("damaged ranks are malformed") {
  CHECK(is_tiktoken(kRanks));
  CHECK_FALSE(is_tiktoken("\n\x0e\n\x05<unk>"));
  CHECK_FALSE(is_tiktoken(""));
  const std::string good = kRanks;
  for (const char* line : {"YQ==", "YQ== x", "YQ== -1", "YQ 9", "Y*== 9", " 9", "YQ== 9 9", "YQ== 9",
                           "YmI= 0", "YmI= 2000000000"})
    CHECK(failure([&] { from_ranks(config_of("QWenTokenizer"), good + std::string(line) + "\n"); }).first ==
          ExitCode::kMalformed);
}

TEST_CASE("base64 is read strictly") {
  CHECK(from_base64("") == "");
  CHECK(from_base64("AP9B") == std::string("\0\xFF\x41", 3));
  CHECK(from_base64("aGk=") == "hi");
  CHECK(from_base64("aA==") == "h");
  for (const char* text : {"a", "aG", "aGk", "aGk!", "aGl=", "aB==", "====", "a===", "aG=k", "aGk=\n"})
    CHECK_FALSE(from_base64(text));
}
