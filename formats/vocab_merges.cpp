#include "formats/vocab_merges.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/text/bpe.h"
#include "formats/byte_level_classes.h"
#include "formats/text_lines.h"
#include "formats/tokenizer_json_model.h"

namespace qtool {

namespace {

struct ClassRow {
  std::string_view tokenizer_class;
  std::string_view model_types;  // that imply the class, each between spaces
  bool is_qwen;                  // Qwen's pattern after NFC; else GPT-2's
  const char* default_bos;       // nullptr: none
  const char* default_eos;
};
constexpr ClassRow kClasses[] = {
    {"GPT2Tokenizer", " gpt2 gpt_neo gptj gpt_bigcode opt phi starcoder2 ", false, "<|endoftext|>",
     "<|endoftext|>"},
    {"CodeGenTokenizer", " codegen ", false, "<|endoftext|>", "<|endoftext|>"},
    {"Qwen2Tokenizer", " qwen2 qwen2_moe qwen3 qwen3_moe ", true, nullptr, "<|endoftext|>"},
};

const ClassRow& class_of(const TokenizerConfig& config) {
  const std::string name = tokenizer_class_of(config);
  std::string known;
  for (const ClassRow& row : kClasses) {
    if (name.empty() ? lists(row.model_types, config.model_type) : row.tokenizer_class == name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.tokenizer_class);
  }
  const std::string who = name.empty() ? "the model type '" + escaped(config.model_type) + "'"
                                       : "the tokenizer class '" + escaped(config.tokenizer_class) + "'";
  throw Error(ExitCode::kUnsupported,
              who + " is not supported with vocab.json and merges.txt; known classes are " + known +
                  "; a tokenizer.json would be read");
}

// A line a merge, the first rank first; a line "#version" may begin the file.
std::vector<Merge> merges_of(std::string_view text) {
  std::vector<Merge> merges;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::string line(take_line(text));
    if (line.starts_with("#version") || (line.empty() && text.empty())) continue;
    merges.push_back(tokenizer_json::merge_from(line, "merges.txt: line " + std::to_string(number)));
  }
  return merges;
}

}  // namespace

TokenizerParts parts_from_vocab_merges(const Json& vocab, std::string_view merges,
                                       const TokenizerConfig& config) {
  const ClassRow& row = class_of(config);
  TokenizerParts parts;
  parts.kind = "BPE (byte-level)";
  parts.vocabulary = tokenizer_json::vocabulary_from(vocab, "vocab.json");
  try {
    parts.model = std::make_shared<Bpe>(parts.vocabulary,
                                        merge_rules(*parts.vocabulary, merges_of(merges), ""), BpeOptions{});
  } catch (const Error& error) {
    if (std::string_view(error.what()).starts_with("merges.txt")) throw;
    throw error.within("merges.txt");
  }
  set_byte_level_stages(parts, row.is_qwen ? Regex::from_oniguruma(kQwenPattern) : gpt2_pattern(),
                        row.is_qwen);
  // GPT-2 puts the space in front of the text, Qwen in front of every piece: so do the classes' ByteLevel
  // steps.
  if (config.add_prefix_space.value_or(false))
    parts.pre_tokenizer.insert(row.is_qwen ? parts.pre_tokenizer.begin() + 1 : parts.pre_tokenizer.begin(),
                               PrependSpace{});

  TokenizerConfig completed = config;
  if (row.default_bos) default_bos(completed, row.default_bos);
  default_eos(completed, row.default_eos);
  complete(parts, completed);
  parts.frames = {frame_of(parts, config, false, false)};
  return parts;
}

}  // namespace qtool
