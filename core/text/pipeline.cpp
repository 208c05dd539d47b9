#include "core/text/pipeline.h"

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "core/error.h"
#include "core/text/utf8.h"

namespace qtool {

namespace {

// The ids of pieces seen before in the same text: natural text repeats its words, and merging is far slower
// than a look-up. Lives as long as one call, so encode() needs no lock and no bound.
class PieceCache {
 public:
  explicit PieceCache(const TokenModel& model) : model_(model) {}

  void tokenize(const Pieces& pieces, std::vector<TokenId>& out) {
    // Keys are views into the text of the piece that came first, so that text has to stay.
    const std::string& text = texts_.emplace_back(pieces.text);
    for (const Span& span : pieces.spans) {
      const std::string_view piece = std::string_view(text).substr(span.begin, span.end - span.begin);
      if (piece.size() > kMaxPieceBytes) {
        model_.tokenize(piece, out);
        continue;
      }
      const auto [row, is_new] = seen_.try_emplace(piece);
      Range& range = row->second;
      if (is_new) {
        range.begin = out.size();
        model_.tokenize(piece, out);
        range.end = out.size();
      } else {
        for (std::size_t i = range.begin; i < range.end; ++i) out.push_back(out[i]);
      }
    }
  }

 private:
  static constexpr std::size_t kMaxPieceBytes = 256;
  struct Range {  // of the ids in the output
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  const TokenModel& model_;
  std::deque<std::string> texts_;
  std::unordered_map<std::string_view, Range> seen_;
};

class PipelineTokenizer : public Tokenizer {
 public:
  explicit PipelineTokenizer(TokenizerParts parts);

  std::vector<TokenId> encode(std::string_view text, bool add_special_tokens) const override;
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const override;
  std::unique_ptr<StreamDecoder> stream(std::span<const TokenId> prompt,
                                        bool skip_special_tokens) const override;

  std::int64_t vocab_size() const override { return size_; }
  std::optional<std::string> token_text(TokenId id) const override {
    const std::string* text = spelling_of(id);
    return text ? std::optional(*text) : std::nullopt;
  }
  std::optional<TokenId> id_of(std::string_view token) const override {
    if (const AddedToken* added = parts_.added_tokens.by_content(token)) return added->id;
    return parts_.vocabulary->find(token);
  }
  bool is_special(TokenId id) const override {
    const AddedToken* added = parts_.added_tokens.by_id(id);
    return added && added->special;
  }
  std::optional<TokenId> bos_id() const override { return parts_.bos; }
  std::optional<TokenId> eos_id() const override { return parts_.eos; }
  std::string_view kind() const override { return parts_.kind; }

 private:
  class Stream;

  const std::string* spelling_of(TokenId id) const {
    if (const AddedToken* added = parts_.added_tokens.by_id(id)) return &added->content;
    return parts_.vocabulary->text_of(id);
  }
  void require_token(TokenId id, const std::string& user) const;

  TokenizerParts parts_;
  std::int64_t size_ = 0;
};

class PipelineTokenizer::Stream : public StreamDecoder {
 public:
  Stream(const PipelineTokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special), run_(tokenizer.parts_.decoder) {}

  // An id without a spelling is passed over, as in the reference: models have more rows than tokens.
  std::string push(TokenId id) override {
    if (skip_special_ && tokenizer_.is_special(id)) return {};
    const std::string* spelling = tokenizer_.spelling_of(id);
    return spelling ? run_.push(*spelling) : std::string();
  }
  std::string finish() override { return run_.finish(); }
  void forget_output() { run_.forget_output(); }

 private:
  const PipelineTokenizer& tokenizer_;
  bool skip_special_;
  DecoderRun run_;
};

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
  size_ = parts_.vocabulary->size();
  const auto& added_tokens = parts_.added_tokens.all();
  const std::int64_t limit = id_limit(static_cast<std::size_t>(size_) + added_tokens.size());
  for (const AddedToken& added : added_tokens) {
    const std::string name = "the added token \"" + escaped(added.content) + "\"";
    if (added.id < 0 || added.id >= limit)
      throw Error(ExitCode::kMalformed, name + " has the impossible id " + std::to_string(added.id));
    const std::string* other = parts_.vocabulary->text_of(added.id);
    if (other && *other != added.content)
      throw Error(ExitCode::kMalformed, name + " has the id " + std::to_string(added.id) +
                                            " of the token \"" + escaped(*other) + "\"");
    const std::optional<TokenId> in_vocabulary = parts_.vocabulary->find(added.content);
    if (in_vocabulary && *in_vocabulary != added.id)
      throw Error(ExitCode::kMalformed, name + " has the id " + std::to_string(added.id) + ", but " +
                                            std::to_string(*in_vocabulary) + " in the vocabulary");
    size_ = std::max<std::int64_t>(size_, std::int64_t{added.id} + 1);
  }
  for (const Frame& frame : parts_.frames)
    for (const auto* ids : {&frame.before, &frame.after})
      for (const TokenId id : *ids) require_token(id, "the post-processor");
  if (parts_.bos) require_token(*parts_.bos, "bos_token");
  if (parts_.eos) require_token(*parts_.eos, "eos_token");
}

void PipelineTokenizer::require_token(TokenId id, const std::string& user) const {
  if (!spelling_of(id))
    throw Error(ExitCode::kMalformed, user + " names the id " + std::to_string(id) + ", which no token has");
}

std::vector<TokenId> PipelineTokenizer::encode(std::string_view text, bool add_special_tokens) const {
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = to_valid_utf8(text);

  std::vector<TokenId> ids;
  PieceCache cache(*parts_.model);
  for (const Segment& outer : parts_.added_tokens.find(text, false)) {
    if (outer.token) {
      ids.push_back(*outer.token);
      continue;
    }
    const NormalText normal =
        normalize(parts_.normalizer, text.substr(outer.span.begin, outer.span.end - outer.span.begin));
    // Counted from the beginning of the input, not of the segment.
    const std::size_t first_bytes = outer.span.begin == 0 ? normal.first_bytes : 0;
    for (const Segment& inner : parts_.added_tokens.find(normal.text, true)) {
      if (inner.token) {
        ids.push_back(*inner.token);
        continue;
      }
      Pieces pieces = whole(normal.text.substr(inner.span.begin, inner.span.end - inner.span.begin),
                            first_bytes - std::min(first_bytes, inner.span.begin));
      pre_tokenize(parts_.pre_tokenizer, pieces);
      cache.tokenize(pieces, ids);
    }
  }
  if (add_special_tokens)
    for (const Frame& frame : parts_.frames) {
      ids.insert(ids.begin(), frame.before.begin(), frame.before.end());
      ids.insert(ids.end(), frame.after.begin(), frame.after.end());
    }
  return ids;
}

std::string PipelineTokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  Stream run(*this, skip_special_tokens);
  std::string text;
  for (const TokenId id : ids) {
    if (id < 0 || id >= size_)
      throw Error(ExitCode::kUsage, "token id " + std::to_string(id) + " is outside the vocabulary of " +
                                        std::to_string(size_) + " tokens");
    text += run.push(id);
  }
  return text += run.finish();
}

std::unique_ptr<StreamDecoder> PipelineTokenizer::stream(std::span<const TokenId> prompt,
                                                         bool skip_special_tokens) const {
  auto run = std::make_unique<Stream>(*this, skip_special_tokens);
  for (const TokenId id : prompt) run->push(id);
  run->forget_output();
  return run;
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(TokenizerParts parts) {
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

}  // namespace qtool
