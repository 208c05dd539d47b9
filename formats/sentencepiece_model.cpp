#include "formats/sentencepiece_model.h"

#include <sentencepiece_processor.h>
#include <utility>

#include "core/error.h"

namespace qtool {

namespace {

constexpr const char* kMetaspace = "\xE2\x96\x81";  // U+2581, sentencepiece's space

class SentencePiece : public TokenModel {
 public:
  SentencePiece(const std::string& content, const std::string& what) {
    // Protocol buffers merge what is appended: field 3 (normalizer_spec), of length 4, with add_dummy_prefix
    // (3) and remove_extra_whitespaces (4) false. Spaces in front are the pre-tokenizer's business: only it
    // knows whether a piece begins the text or follows a special token.
    static constexpr std::string_view kNoPrefix("\x1A\x04\x18\x00\x20\x00", 6);
    const auto status = processor_.LoadFromSerializedProto(content + std::string(kNoPrefix));
    if (!status.ok())
      throw Error(ExitCode::kMalformed, what + ": no sentencepiece model: " + escaped(status.ToString()));
  }

  void tokenize(std::string_view piece, std::vector<TokenId>& out) const override {
    std::vector<int> ids;
    const auto status = processor_.Encode({piece.data(), piece.size()}, &ids);
    if (!status.ok()) throw internal_error("sentencepiece: " + status.ToString());
    out.insert(out.end(), ids.begin(), ids.end());
  }

  const sentencepiece::SentencePieceProcessor& processor() const { return processor_; }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

struct Semantics {
  bool prefix;  // a space in front of the text, stripped again by decoding
};

Semantics semantics_of(const TokenizerConfig& config, const std::string& what) {
  std::string name = config.tokenizer_class;
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (name == "GemmaTokenizer") return {false};
  for (const std::string_view llama : {"", "LlamaTokenizer", "CodeLlamaTokenizer", "PreTrainedTokenizer"})
    if (name == llama) return {config.add_prefix_space};
  throw Error(ExitCode::kUnsupported,
              what + ": the tokenizer class '" + escaped(config.tokenizer_class) +
                  "' is not supported with a sentencepiece model; known are LlamaTokenizer, "
                  "CodeLlamaTokenizer, GemmaTokenizer; a tokenizer.json would be read");
}

}  // namespace

TokenizerParts parts_from_sentencepiece(const std::string& content, const TokenizerConfig& config,
                                        const std::string& what) {
  const Semantics semantics = semantics_of(config, what);
  const auto model = std::make_shared<SentencePiece>(content, what);
  const sentencepiece::SentencePieceProcessor& processor = model->processor();

  TokenizerParts parts;
  parts.kind = "sentencepiece";
  parts.model = model;
  std::vector<std::pair<std::string, TokenId>> entries;
  std::vector<AddedToken> added;
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    const std::string& piece = processor.IdToPiece(id);
    entries.emplace_back(piece, id);
    if (!processor.IsControl(id) && !processor.IsUnknown(id)) continue;
    AddedToken token;
    token.content = piece;
    token.id = id;
    token.special = true;
    added.push_back(std::move(token));
  }
  parts.vocabulary = std::make_shared<Vocabulary>(std::move(entries));
  parts.added_tokens = AddedTokens(std::move(added), {});

  const PrependScheme first = config.legacy ? PrependScheme::kAlways : PrependScheme::kFirst;
  parts.pre_tokenizer = {Metaspace{kMetaspace, semantics.prefix ? first : PrependScheme::kNever, false}};
  parts.decoder = {DecodeReplace{kMetaspace, " "}, DecodeByteFallback{}, DecodeFuse{}};
  if (semantics.prefix) parts.decoder.push_back(DecodeStrip{" ", 1, 0});

  // Names that the configuration leaves out are those of the model itself.
  TokenizerConfig completed = config;
  const auto default_name = [&processor](std::optional<std::string>& name, int id) {
    if (!name && id >= 0) name = processor.IdToPiece(id);
  };
  default_name(completed.bos_token, processor.bos_id());
  default_name(completed.eos_token, processor.eos_id());
  complete(parts, completed);
  Frame frame;
  if (config.add_bos_token && parts.bos) frame.before.push_back(*parts.bos);
  if (config.add_eos_token && parts.eos) frame.after.push_back(*parts.eos);
  parts.frames = {frame};
  return parts;
}

}  // namespace qtool
