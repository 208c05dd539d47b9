#include "formats/sentencepiece_model.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <sentencepiece_processor.h>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/limits.h"
#include "core/text/utf8.h"
#include "formats/sentencepiece_fields.h"

namespace qtool {

namespace {

using sentencepiece::SentencePieceProcessor;
using ModelType = SentencePieceFields::ModelType;

constexpr const char* kMetaspace = "\xE2\x96\x81";  // U+2581, sentencepiece's space

// The library as the model of a tokenizer: it cuts, all else is done by the stages around it. They normalize
// because only they know whether a piece begins the text or follows a special token, and because the library
// follows a character map wherever its offsets lead, in memory, too.
class SentencePiece : public TokenModel {
 public:
  SentencePiece(const std::string& segmentation, const std::string& what) : what_(what) {
    // A normalizer_spec (field 3, of length 4) with add_dummy_prefix (3) and remove_extra_whitespaces (4)
    // off.
    static constexpr std::string_view kAsItIs("\x1A\x04\x18\x00\x20\x00", 6);
    std::string reason;
    try {
      const auto status = processor_.LoadFromSerializedProto(segmentation + std::string(kAsItIs));
      if (!status.ok()) reason = status.ToString();
    } catch (const std::bad_alloc&) {
      throw Error(ExitCode::kMemory, what_ + ": out of memory");
    } catch (const std::exception& error) {  // of the trie inside, for pieces it cannot hold
      reason = error.what();
    }
    if (!reason.empty())
      throw Error(ExitCode::kMalformed, what_ + ": no sentencepiece model: " + escaped(reason));
  }

  void tokenize(std::string_view piece, std::vector<TokenId>& out) const override {
    std::vector<int> ids;
    const auto status = processor_.Encode(piece, &ids);
    // A control piece of one character takes that character's place and then stands for nothing.
    if (!status.ok())
      throw Error(ExitCode::kMalformed, what_ + ": cannot cut text: " + escaped(status.ToString()));
    out.insert(out.end(), ids.begin(), ids.end());
  }

  const SentencePieceProcessor& processor() const { return processor_; }

 private:
  std::string what_;
  SentencePieceProcessor processor_;
};

// How a class of transformers frames the model.
struct Semantics {
  std::string_view tokenizer_class;
  bool has_prefix;     // a space in front of the text, stripped again by decoding, unless add_prefix_space is
                       // false
  bool uses_charsmap;  // the model's own normalization is applied
  bool adds_bos;       // unless add_bos_token says otherwise
};
constexpr Semantics kSemantics[] = {
    {"LlamaTokenizer", true, false, true},
    {"CodeLlamaTokenizer", true, false, true},
    {"GemmaTokenizer", false, false, true},
    {"PreTrainedTokenizer", false, true, false},  // "PreTrainedTokenizerFast" without its ending
    {"TokenizersBackend", false, true, false},
};

Semantics semantics_of(const TokenizerConfig& config, const SentencePieceFields& fields,
                       const std::string& what) {
  const std::string name = tokenizer_class_of(config);
  // Without a class the folder is a model's original release, Llama's first of all.
  if (name.empty()) return {"", fields.add_dummy_prefix, true, true};
  std::string known;
  for (const Semantics& row : kSemantics) {
    if (row.tokenizer_class == name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.tokenizer_class);
  }
  throw Error(ExitCode::kUnsupported, what + ": the tokenizer class '" + escaped(config.tokenizer_class) +
                                          "' is not supported with a sentencepiece model; known are " +
                                          known + "; a tokenizer.json would be read");
}

// The library looks for the user's own pieces in a table of 64 matches and does not look where it ends.
void check_nesting(const SentencePieceProcessor& processor, const std::vector<TokenId>& user_defined,
                   const std::string& what) {
  std::set<std::string> keys;  // as the library has them: up to a zero byte
  for (const TokenId id : user_defined) keys.insert(processor.IdToPiece(id).c_str());
  std::vector<std::string_view> beginnings;  // of the current key that are keys
  for (const std::string& key : keys) {
    while (!beginnings.empty() && !key.starts_with(beginnings.back())) beginnings.pop_back();
    beginnings.push_back(key);
    if (beginnings.size() > kMaxNestedPieces)
      throw Error(ExitCode::kUnsupported, what + ": more than " + std::to_string(kMaxNestedPieces) +
                                              " user-defined pieces begin with each other");
  }
}

Vocabulary vocabulary_of(const SentencePieceProcessor& processor, const std::string& what) {
  std::vector<std::pair<std::string, TokenId>> entries;
  for (TokenId id = 0; id < processor.GetPieceSize(); ++id) {
    const std::string& piece = processor.IdToPiece(id);
    const char* flaw = !is_valid_utf8(piece)                        ? "is not UTF-8"
                       : !(std::abs(processor.GetScore(id)) < 1e30) ? "has a score that is no number"
                                                                    : nullptr;
    if (flaw)
      throw Error(ExitCode::kMalformed,
                  what + ": no sentencepiece model: piece " + std::to_string(id) + " " + flaw);
    entries.emplace_back(piece, id);
  }
  return Vocabulary(std::move(entries));
}

// Control pieces and the user's own are found in the text before it is cut.
std::vector<AddedToken> added_tokens_of(const SentencePieceProcessor& processor,
                                        const std::vector<TokenId>& user_defined) {
  std::vector<AddedToken> tokens;
  for (TokenId id = 0; id < processor.GetPieceSize(); ++id) {
    const bool is_user_defined = std::binary_search(user_defined.begin(), user_defined.end(), id);
    if (!is_user_defined && !processor.IsControl(id) && !processor.IsUnknown(id)) continue;
    AddedToken token;
    token.content = processor.IdToPiece(id);
    token.id = id;
    token.special = !is_user_defined;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

TokenizerParts parts_from_sentencepiece(std::string_view content, const TokenizerConfig& config,
                                        const std::string& what) {
  const SentencePieceFields fields = read_sentencepiece_fields(content, what);
  const Semantics semantics = semantics_of(config, fields, what);
  const bool is_bpe = fields.model_type == ModelType::kBpe;
  if ((!is_bpe && fields.model_type != ModelType::kUnigram) || fields.treat_whitespace_as_suffix)
    throw Error(ExitCode::kUnsupported,
                what +
                    ": a sentencepiece model of words, of characters or with spaces behind words is not "
                    "supported; known are BPE and Unigram with spaces in front");
  const auto model = std::make_shared<SentencePiece>(fields.segmentation, what);
  const SentencePieceProcessor& processor = model->processor();
  check_nesting(processor, fields.user_defined, what);

  TokenizerParts parts;
  parts.kind = is_bpe ? "sentencepiece BPE" : "sentencepiece Unigram";
  parts.model = model;
  parts.vocabulary = std::make_shared<Vocabulary>(vocabulary_of(processor, what));
  if (semantics.uses_charsmap && !fields.precompiled_charsmap.empty())
    parts.normalizer = {NormalizePrecompiled{std::make_shared<Charsmap>(fields.precompiled_charsmap)}};
  parts.added_tokens = AddedTokens(added_tokens_of(processor, fields.user_defined), parts.normalizer);

  const bool has_prefix = semantics.has_prefix && config.add_prefix_space.value_or(true);
  const PrependScheme first = config.legacy ? PrependScheme::kAlways : PrependScheme::kFirst;
  parts.pre_tokenizer = {Metaspace{kMetaspace, has_prefix ? first : PrependScheme::kNever, false}};
  parts.decoder = {DecodeReplace{kMetaspace, " "}, DecodeByteFallback{}, DecodeFuse{}};
  if (has_prefix) parts.decoder.emplace_back(DecodeStrip{" ", 1, 0});

  // Names that the configuration leaves out are those of the model itself.
  TokenizerConfig completed = config;
  if (processor.bos_id() >= 0) default_bos(completed, processor.IdToPiece(processor.bos_id()));
  if (processor.eos_id() >= 0) default_eos(completed, processor.IdToPiece(processor.eos_id()));
  complete(parts, completed);
  parts.frames = {frame_of(parts, config, semantics.adds_bos, false)};
  return parts;
}

}  // namespace qtool
