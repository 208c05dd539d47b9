#include "core/text/unigram.h"

#include <algorithm>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/limits.h"
#include "core/text/regex.h"
#include "core/text/utf8.h"

namespace qtool {

namespace {

constexpr std::uint32_t kUnreached = std::numeric_limits<std::uint32_t>::max();
// An unknown character costs this much more than the least likely token (sentencepiece's kUnkPenalty).
constexpr double kUnkPenalty = 10.0;

}  // namespace

Unigram::Unigram(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores,
                 UnigramOptions options)
    : vocabulary_(std::move(vocabulary)),
      scores_(std::move(scores)),
      options_(options),
      byte_ids_(byte_tokens(*vocabulary_)) {
  if (static_cast<std::int64_t>(scores_.size()) != vocabulary_->size())
    throw internal_error("a unigram vocabulary needs one score for every token");
  if (options_.unk_id && !vocabulary_->text_of(*options_.unk_id))
    throw Error(ExitCode::kMalformed, "'unk_id' is " + std::to_string(*options_.unk_id) +
                                          ", which no token of the " + std::to_string(scores_.size()) +
                                          " has");
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t id = 0; id < scores_.size(); ++id) {
    const auto token = static_cast<TokenId>(id);
    const std::string* text = vocabulary_->text_of(token);
    if (!text) continue;
    if (text->size() > kMaxTokenBytes)
      throw Error(ExitCode::kMalformed, "the token " + std::to_string(id) + " has " +
                                            std::to_string(text->size()) + " bytes, more than " +
                                            std::to_string(kMaxTokenBytes));
    trie_.insert(*text, token);
    least = std::min(least, scores_[id]);
  }
  unk_score_ = least - kUnkPenalty;
}

// best[i] is the best way to byte i. Only the first bytes of characters are left; of two ways with the same
// score the one found first counts, so tokens that begin earlier are preferred.
std::vector<Unigram::Step> Unigram::best_steps(std::string_view piece) const {
  std::vector<Step> best(piece.size() + 1, Step{0.0, kUnreached, 0});
  const auto offer = [&best](std::size_t begin, std::size_t end, double score, TokenId id) {
    Step& step = best[end];
    if (step.begin == kUnreached || score > step.score) step = {score, static_cast<std::uint32_t>(begin), id};
  };
  for (std::size_t begin = 0; begin < piece.size();) {
    const double score = best[begin].score;
    std::size_t next = begin;
    next_code_point(piece, next);
    bool is_known = false;  // a token is exactly this character
    std::int32_t node = ByteTrie::kRoot;
    for (std::size_t i = begin; i < piece.size(); ++i) {
      node = trie_.child(node, piece[i]);
      if (node == ByteTrie::kNone) break;
      const TokenId id = trie_.value(node);
      if (id == ByteTrie::kNone) continue;
      offer(begin, i + 1, score + scores_[static_cast<std::size_t>(id)], id);
      is_known = is_known || i + 1 == next;
    }
    if (!is_known) {
      if (!options_.unk_id)
        throw Error(ExitCode::kMalformed, "the tokenizer has no token for \"" +
                                              escaped(piece.substr(begin, next - begin)) +
                                              "\" and no 'unk_id' to stand for it");
      offer(begin, next, score + unk_score_, *options_.unk_id);
    }
    begin = next;
  }
  return best;
}

void Unigram::tokenize(std::string_view piece, std::vector<TokenId>& out) const {
  if (piece.size() >= kUnreached)
    throw Error(ExitCode::kMemory, "a piece of text of more than 4 GB cannot be tokenized");
  const std::vector<Step> best = best_steps(piece);

  // From the end to the beginning. A run of unknown characters is one unknown text.
  struct Token {
    Span span;
    TokenId id;
  };
  std::vector<Token> tokens;
  for (std::size_t end = piece.size(); end > 0;) {
    const Step& step = best[end];
    if (!tokens.empty() && step.id == options_.unk_id && tokens.back().id == step.id)
      tokens.back().span.begin = step.begin;
    else
      tokens.push_back({{step.begin, end}, step.id});
    end = step.begin;
  }
  for (auto token = tokens.rbegin(); token != tokens.rend(); ++token) {
    if (token->id == options_.unk_id)
      append_unknown(piece.substr(token->span.begin, token->span.end - token->span.begin), out);
    else
      out.push_back(token->id);
  }
}

void Unigram::append_unknown(std::string_view run, std::vector<TokenId>& out) const {
  // As in the reference, a run that spells a token after all is that token.
  if (const std::optional<TokenId> id = vocabulary_->find(run)) {
    out.push_back(*id);
    return;
  }
  const auto byte_id = [this](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
  if (options_.byte_fallback &&
      std::all_of(run.begin(), run.end(), [&](char c) { return byte_id(c).has_value(); })) {
    for (const char c : run) out.push_back(*byte_id(c));
    return;
  }
  out.push_back(*options_.unk_id);
}

}  // namespace qtool
