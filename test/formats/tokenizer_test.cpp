// Real tokenizers against what Hugging Face's `tokenizers` makes of them.
#include <catch2/catch.hpp>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"
#include "formats/file.h"
#include "formats/json.h"
#include "formats/tokenizers.h"
#include "test/support/paths.h"

using namespace qtool;
using test::data;
using test::has_shared;
using test::shared;

namespace {

using Ids = std::vector<TokenId>;

// Pushes `ids` behind `prompt` one by one: together they must be what decode() adds for them in that context.
void check_stream(const Tokenizer& tokenizer, const Ids& ids, std::size_t prompt_length, bool skip_special) {
  const Ids prompt(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(prompt_length));
  const auto stream = tokenizer.stream(prompt, skip_special);
  std::string text;
  for (std::size_t i = prompt_length; i < ids.size(); ++i) {
    const std::string pushed = stream->push(ids[i]);
    REQUIRE_NOTHROW(Json(pushed).dump());  // whole UTF-8 only
    text += pushed;
  }
  text += stream->finish();
  const std::string all = tokenizer.decode(ids, skip_special);
  const std::string before = tokenizer.decode(prompt, skip_special);
  REQUIRE(all == before + text);
}

// By value: a range-for over a part of a temporary would outlive it.
Json shared_cases() { return read_json_file(shared("tokenizers/cases.json")).at("cases"); }

}  // namespace

TEST_CASE("our own small tokenizers give the reference's ids and texts") {
  std::string loaded;
  std::unique_ptr<Tokenizer> tokenizer;
  for (const Json& row : read_json_file(data("tokenizers/cases.json"))) {
    const std::string name = row["tokenizer"];
    if (name != loaded) tokenizer = load_tokenizer(data("tokenizers/" + name));
    loaded = name;
    const std::string text = row["text"];
    INFO(name << ": " << text);
    const Ids ids = tokenizer->encode(text, true);
    CHECK(ids == row["ids"].get<Ids>());
    CHECK(tokenizer->decode(ids, false) == row["decoded"].get<std::string>());
    CHECK(tokenizer->decode(ids, true) == row["without_special"].get<std::string>());
    for (const bool skip : {false, true}) check_stream(*tokenizer, ids, 0, skip);
  }
}

TEST_CASE("published tokenizers give the published ids") {
  if (!has_shared("tokenizers/cases.json")) return;
  std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  int checked = 0;
  for (const Json& row : shared_cases()) {
    const std::string name = row["tokenizer"];
    std::unique_ptr<Tokenizer>& tokenizer = tokenizers[name];
    if (!tokenizer) tokenizer = load_tokenizer(shared("tokenizers/" + name));
    INFO(name << ": " << row["name"]);
    const Ids ids = tokenizer->encode(row["text"].get<std::string>(), row["add_special_tokens"]);
    CHECK(ids == row["ids"].get<Ids>());
    CHECK(tokenizer->decode(ids, false) == row["decoded"].get<std::string>());
    ++checked;
  }
  CHECK(checked >= 61);
  CHECK(tokenizers.size() >= 12);
}

TEST_CASE("the demo model's tokenizer cuts the prompts as the reference did") {
  const auto tokenizer = load_tokenizer(data("demo"));
  CHECK(tokenizer->vocab_size() == 4096);
  CHECK(tokenizer->bos_id() == 1);
  CHECK(tokenizer->eos_id() == 2);
  CHECK(tokenizer->is_special(0));
  CHECK_FALSE(tokenizer->is_special(347));
  CHECK(tokenizer->token_text(605) == "\u2581capital");
  CHECK(tokenizer->id_of("\u2581capital") == 605);
  CHECK(tokenizer->encode("The capital of France is", true) == Ids{1, 398, 605, 287, 1989, 347});

  const Json reference = read_json_file(data("demo/reference.json"));
  for (const auto& [scheme, prompts] : reference["greedy"].items())
    for (const auto& [prompt, row] : prompts.items()) {
      INFO(scheme << ": " << prompt);
      const Ids ids = row["ids"].get<Ids>();
      const Ids head = tokenizer->encode(prompt, true);
      REQUIRE(head.size() < ids.size());
      CHECK(std::equal(head.begin(), head.end(), ids.begin()));
      CHECK(tokenizer->decode(ids, true) == row["text"].get<std::string>());
      for (const std::size_t length : {std::size_t{0}, std::size_t{1}, head.size()}) {
        // With BOS alone in front and left out, the first word still begins the text.
        check_stream(*tokenizer, ids, length, true);
        check_stream(*tokenizer, ids, length, false);
      }
    }
}

TEST_CASE("sentencepiece models behave as transformers' LlamaTokenizer") {
  // Expected ids and texts: transformers 5.23.0, LlamaTokenizer, legacy false.
  const auto tokenizer = load_tokenizer(data("demo"));
  const auto both = [&](const std::string& text, const Ids& ids, const std::string& decoded) {
    CHECK(tokenizer->encode(text, true) == ids);
    CHECK(tokenizer->decode(ids, false) == decoded);
  };
  both("", {1}, "<s>");
  both("a<s>b</s> c", {1, 261, 1, 4030, 2, 278}, "<s> a<s>b</s> c");
  both("<s> x", {1, 1, 4008, 4056}, "<s><s> x");
  both(" lead", {1, 1922}, "<s> lead");
  both("  two", {1, 4008, 740}, "<s>  two");
  both("a  b", {1, 261, 4008, 277}, "<s> a  b");
  both("x ", {1, 4008, 4056, 4008}, "<s> x ");
  both("<unk>", {1, 0}, "<s><unk>");
  both("a\u2581b", {1, 261, 277}, "<s> a b");
  both("\u00E9\U0001F999\t\n", {1, 4008, 4089, 243, 162, 169, 156, 12, 13}, "<s> \u00E9\U0001F999\t\n");
  CHECK(tokenizer->decode(Ids{1, 261, 1, 4030, 2, 278}, true) == "ab c");
}

TEST_CASE("both forms of Llama 2's tokenizer agree on plain text") {
  if (!has_shared("tokenizers/llama2/tokenizer.model")) return;
  const auto json = load_tokenizer(shared("tokenizers/llama2"));
  const std::filesystem::path temporary = std::filesystem::temp_directory_path() / "qtool-llama2-model";
  std::filesystem::create_directories(temporary);
  for (const char* name : {"tokenizer.model", "tokenizer_config.json"})
    std::filesystem::copy_file(shared(std::string("tokenizers/llama2/") + name), temporary / name,
                               std::filesystem::copy_options::overwrite_existing);
  const auto model = load_tokenizer(temporary.string());
  std::filesystem::remove_all(temporary);
  CHECK(model->kind() == "sentencepiece BPE");
  for (const Json& row : shared_cases()) {
    const std::string text = row["text"];
    INFO(text);
    if (text.find("</s>") == std::string::npos) CHECK(model->encode(text, true) == json->encode(text, true));
  }
}

TEST_CASE("a book comes back as it was") {
  if (!has_shared("corpus/heldout.txt")) return;
  const std::string book = read_file(shared("corpus/heldout.txt"));
  for (const char* name :
       {"models/demo", "models/eval", "models/stories260k", "tokenizers/llama2", "tokenizers/llama3",
        "tokenizers/qwen2.5", "tokenizers/gpt2", "tokenizers/gptneox-20b", "tokenizers/phi3",
        "tokenizers/falcon", "tokenizers/bloom", "tokenizers/minimind"}) {
    if (!has_shared(name)) continue;
    const auto tokenizer = load_tokenizer(shared(name));
    INFO(name);
    CHECK(tokenizer->decode(tokenizer->encode(book, false), false) == book);
  }
}

TEST_CASE("every model folder's tokenizer loads and knows its end") {
  for (const char* name : {"demo", "demo-int8", "demo-nf4dq", "eval", "stories260k", "tinystories-656k"}) {
    if (!has_shared(std::string("models/") + name)) return;
    const auto tokenizer = load_tokenizer(shared(std::string("models/") + name));
    INFO(name);
    REQUIRE(tokenizer->bos_id());
    REQUIRE(tokenizer->eos_id());
    CHECK(tokenizer->encode("a", true).front() == *tokenizer->bos_id());
    CHECK(tokenizer->is_special(*tokenizer->eos_id()));
  }
}

TEST_CASE("random ids stream as they decode") {
  std::mt19937 random(3);
  for (const char* name : {"tokenizers/byte-level", "tokenizers/byte-fallback", "tokenizers/unigram-charsmap",
                           "tokenizers/unigram-llama", "tokenizers/unigram-backend",
                           "tokenizers/vocab-merges", "tokenizers/tiktoken", "demo"}) {
    const auto tokenizer = load_tokenizer(data(name));
    for (int round = 0; round < 300; ++round) {
      Ids ids;
      for (int i = 0; i < 12; ++i)
        ids.push_back(static_cast<TokenId>(
            random() %
            static_cast<unsigned>(std::min<std::int64_t>(tokenizer->vocab_size(), round % 2 ? 300 : 10000))));
      check_stream(*tokenizer, ids, 0, round % 3 == 0);
    }
  }
}

TEST_CASE("hostile text is tokenized in bounded time") {
  for (const char* name : {"tokenizers/byte-level", "tokenizers/byte-fallback", "tokenizers/unigram-charsmap",
                           "tokenizers/unigram-llama", "demo"}) {
    const auto tokenizer = load_tokenizer(data(name));
    for (const std::string& text : {std::string(1 << 20, 'a'), std::string(1 << 20, ' '),
                                    std::string(1 << 20, '\0'), std::string(1 << 18, '\xFF')}) {
      const auto start = std::chrono::steady_clock::now();
      const Ids ids = tokenizer->encode(text, false);
      CHECK_FALSE(ids.empty());
      CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
    }
  }
}

TEST_CASE("ids outside the vocabulary are a mistake of the caller, in a stream of the model") {
  const auto tokenizer = load_tokenizer(data("demo"));
  for (const TokenId id : {-1, 4096, 2'000'000'000}) {
    CHECK_THROWS_AS(tokenizer->decode(Ids{id}, false), Error);
    CHECK(tokenizer->stream({}, false)->push(id).empty());
    CHECK_FALSE(tokenizer->token_text(id));
  }
}
