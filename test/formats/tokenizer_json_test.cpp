// tokenizer.json of all sorts: the parts it may have, and files made to mislead.
#include "formats/tokenizer_json.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/file.h"
#include "test/support/paths.h"

using namespace qtool;

namespace {

using Ids = std::vector<TokenId>;

Json document(const std::string& changes = "{}") {
  Json base = parse_json(
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<s>": 3}, "merges": ["a b"]},
                             "added_tokens": [{"id": 3, "content": "<s>", "special": true}]})",
      "base");
  base.merge_patch(parse_json(changes, "changes"));
  return base;
}

std::unique_ptr<Tokenizer> tokenizer_of(const Json& json) {
  return make_tokenizer(parts_from_tokenizer_json(json, "tokenizer.json"));
}

// The exit code and the sentence.
std::pair<ExitCode, std::string> failure(const std::string& changes) {
  try {
    tokenizer_of(document(changes));
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ExitCode::kOk, ""};
}

}  // namespace

TEST_CASE("merges come as strings and as pairs") {
  CHECK(tokenizer_of(document())->encode("abba", true) == Ids{2, 1, 0});
  CHECK(tokenizer_of(document(R"({"model": {"merges": [["a", "b"]]}})"))->encode("abba", true) ==
        Ids{2, 1, 0});
  CHECK(tokenizer_of(document(R"({"model": {"type": null}})"))->encode("ab<s>", true) == Ids{2, 3});
}

TEST_CASE("post-processors frame the text") {
  const char* processing = R"({"post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
     {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
     "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}}}]}})";
  CHECK(tokenizer_of(document(processing))->encode("a", true) == Ids{3, 0});
  CHECK(tokenizer_of(document(processing))->encode("a", false) == Ids{0});
  const char* roberta =
      R"({"post_processor": {"type": "RobertaProcessing", "sep": ["b", 1], "cls": ["<s>", 3]}})";
  CHECK(tokenizer_of(document(roberta))->encode("a", true) == Ids{3, 0, 1});
}

TEST_CASE("without a decoder tokens are joined by spaces") {
  CHECK(tokenizer_of(document())->decode(Ids{2, 0, 3}, false) == "ab a <s>");
  CHECK(tokenizer_of(document())->decode(Ids{3, 2, 0}, true) == "ab a");
}

TEST_CASE("unknown parts are refused by name, with the known ones") {
  for (const auto& [changes, name] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"({"model": {"type": "WordPiece"}})", "WordPiece"},
           {R"({"model": {"type": "WordLevel"}})", "WordLevel"},
           {R"({"normalizer": {"type": "Mystery"}})", "Mystery"},
           {R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "BertNormalizer"}]}})",
            "BertNormalizer"},
           {R"({"pre_tokenizer": {"type": "UnicodeScripts"}})", "UnicodeScripts"},
           {R"({"pre_tokenizer": {"type": "FixedLength", "length": 5}})", "FixedLength"},
           {R"({"post_processor": {"type": "Mystery"}})", "Mystery"},
           {R"({"decoder": {"type": "CTC"}})", "CTC"},
           {R"({"decoder": {"type": "WordPiece"}})", "WordPiece"},
           {R"({"model": {"dropout": 0.1}})", "dropout"},
       }) {
    const auto [code, sentence] = failure(changes);
    INFO(sentence);
    CHECK(code == ExitCode::kUnsupported);
    CHECK(sentence.find(name) != std::string::npos);
    CHECK(sentence.starts_with("tokenizer.json"));
  }
  CHECK(failure(R"({"model": {"type": "WordPiece"}})").second.find("known are BPE, Unigram") !=
        std::string::npos);
  CHECK(failure(R"({"model": {"dropout": 0.0}})").first == ExitCode::kOk);
}

TEST_CASE("files that contradict themselves are malformed") {
  for (
      const char* changes : {
          R"({"model": null})",
          R"({"model": {"vocab": null}})",
          R"({"model": {"vocab": ["a"]}})",
          R"({"model": {"vocab": {"c": 0}}})",
          R"({"model": {"vocab": {"c": -1}}})",
          R"({"model": {"vocab": {"c": 1.5}}})",
          R"({"model": {"vocab": {"c": "7"}}})",
          R"({"model": {"vocab": {"c": 2147483647}}})",
          R"({"model": {"vocab": {"c": 99999999999999999999}}})",
          R"({"model": {"merges": ["a c"]}})",
          R"({"model": {"merges": ["b a"]}})",
          R"({"model": {"merges": ["ab"]}})",
          R"({"model": {"merges": ["a b c"]}})",
          R"({"model": {"merges": [["a"]]}})",
          R"({"model": {"merges": [7]}})",
          R"({"model": {"unk_token": "?"}})",
          R"({"model": {"byte_fallback": "yes"}})",
          R"({"added_tokens": [{"id": 0, "content": "<x>"}]})",
          R"({"added_tokens": [{"id": 9, "content": "a"}]})",
          R"({"added_tokens": [{"id": 9, "content": "x"}, {"id": 9, "content": "y"}]})",
          R"({"added_tokens": [{"id": 8, "content": "x"}, {"id": 9, "content": "x"}]})",
          R"({"added_tokens": [{"id": 2000000000, "content": "x"}]})",
          R"({"added_tokens": [{"content": "x"}]})",
          R"({"added_tokens": ["x"]})",
          R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"}})",
          R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": 1}, "behavior": "Isolated"}})",
          R"({"pre_tokenizer": {"type": "Split", "pattern": "x", "behavior": "Isolated"}})",
          R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "__"}})",
          R"({"pre_tokenizer": {"type": "Sequence"}})",
          R"({"pre_tokenizer": "ByteLevel"})",
          R"({"decoder": {"type": "Strip", "content": " ", "start": -1, "stop": 0}})",
          R"({"decoder": {"type": "BPEDecoder", "suffix": ""}})",
          R"({"normalizer": {"type": "Precompiled"}})",
          R"({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "no base64"}})",
          R"({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}})",
          R"({"pre_tokenizer": {"type": "CharDelimiterSplit", "delimiter": "ab"}})",
          R"({"model": {"type": "Unigram"}})",
          R"({"model": {"type": "Unigram", "vocab": ["a"]}})",
          R"({"model": {"type": "Unigram", "vocab": [["a", "0"]]}})",
          R"({"model": {"type": "Unigram", "vocab": [["a", 0], ["a", 0]]}})",
          R"({"model": {"type": "Unigram", "vocab": [["a", 0], ["b", 0], ["c", 0], ["<s>", 0]], "unk_id": 4}})",
          R"({"model": {"type": "Unigram", "vocab": [["a", 0], ["b", 0], ["c", 0], ["<s>", 0]], "unk_id": -1}})",
          R"({"post_processor": {"type": "BertProcessing", "sep": ["b", 77], "cls": ["<s>", 3]}})",
          R"({"post_processor": {"type": "TemplateProcessing", "single": []}})",
          R"({"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}},
               {"Sequence": {"id": "A"}}], "special_tokens": {}}})",
      }) {
    const auto [code, sentence] = failure(changes);
    INFO(changes << " -> " << sentence);
    CHECK(code == ExitCode::kMalformed);
  }
}

TEST_CASE("text that hostile steps would blow up is refused") {
  const std::string step =
      R"({"type": "Replace", "pattern": {"String": "a"}, "content": ")" + std::string(4000, 'a') + "\"}";
  const auto tokenizer = tokenizer_of(
      document(R"({"normalizer": {"type": "Sequence", "normalizers": [)" + step + "," + step + "]}}"));
  CHECK_THROWS_AS(tokenizer->encode("aaaa", false), Error);
}

TEST_CASE("a Unigram model is read with or without its type") {
  const char* model = R"({"model": {"merges": null, "type": "Unigram", "unk_id": 0,
    "vocab": [["<unk>", 0], ["a", -1], ["b", -1], ["<s>", 0], ["ab", -1.5]]}})";
  CHECK(tokenizer_of(document(model))->encode("abba?", true) == Ids{4, 2, 1, 0});
  Json untyped = document(model);
  untyped["model"].erase("type");
  CHECK(tokenizer_of(untyped)->encode("abba<s>", true) == Ids{4, 2, 1, 3});
  CHECK(tokenizer_of(untyped)->kind() == "Unigram");
}
