#include "core/text/added_tokens.h"

#include <algorithm>

#include "core/error.h"
#include "core/limits.h"
#include "core/text/utf8.h"

namespace qtool {

namespace {

bool word_at(std::string_view text, std::size_t position) {
  return position < text.size() && is_in(CharClass::kWord, next_code_point(text, position));
}

// Where the character before `position` begins; `position` is not 0.
std::size_t before(std::string_view text, std::size_t position) {
  do --position;
  while (position > 0 && (static_cast<unsigned char>(text[position]) & 0xC0u) == 0x80u);
  return position;
}

std::size_t skip_space_left(std::string_view text, std::size_t position, std::size_t stop) {
  while (position > stop) {
    const std::size_t previous = before(text, position);
    std::size_t at = previous;
    if (!is_in(CharClass::kWhitespace, next_code_point(text, at))) break;
    position = previous;
  }
  return std::max(position, stop);
}

std::size_t skip_space_right(std::string_view text, std::size_t position) {
  while (position < text.size()) {
    std::size_t next = position;
    if (!is_in(CharClass::kWhitespace, next_code_point(text, next))) break;
    position = next;
  }
  return position;
}

}  // namespace

std::optional<AddedTokens::Match> AddedTokens::longest_at(const ByteTrie& trie, std::string_view text,
                                                          std::size_t position) {
  std::optional<Match> best;
  std::int32_t node = ByteTrie::kRoot;
  for (std::size_t i = position; i < text.size(); ++i) {
    node = trie.child(node, text[i]);
    if (node == ByteTrie::kNone) break;
    if (trie.value(node) != ByteTrie::kNone)
      best = {i + 1 - position, static_cast<std::size_t>(trie.value(node))};
  }
  return best;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const std::vector<NormalizerStep>& normalizer)
    : tokens_(std::move(tokens)) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    if (token.content.size() > kMaxTokenBytes)
      throw Error(ExitCode::kMalformed, "the added token " + std::to_string(token.id) + " has " +
                                            std::to_string(token.content.size()) + " bytes, more than " +
                                            std::to_string(kMaxTokenBytes));
    if (!by_id_.try_emplace(token.id, i).second)
      throw Error(ExitCode::kMalformed, "two added tokens have the id " + std::to_string(token.id));
    if (!by_content_.try_emplace(token.content, i).second)
      throw Error(ExitCode::kMalformed, "the token \"" + escaped(token.content) + "\" is added twice");
  }
  // Special tokens go first: of two with the same normalized text the special one is found.
  for (const bool special : {true, false})
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const AddedToken& token = tokens_[i];
      if (token.special != special) continue;
      if (token.normalized)
        tries_[1].insert(normalize(normalizer, token.content).text, static_cast<std::int32_t>(i));
      else
        tries_[0].insert(token.content, static_cast<std::int32_t>(i));
    }
}

std::vector<Segment> AddedTokens::find(std::string_view text, bool normalized) const {
  const ByteTrie& trie = tries_[normalized ? 1 : 0];
  std::vector<Segment> segments;
  std::size_t done = 0;
  for (std::size_t i = 0; i < text.size();) {
    const auto match = longest_at(trie, text, i);
    if (!match) {
      ++i;
      continue;
    }
    std::size_t begin = i;
    std::size_t end = i + match->length;
    i = end;
    const AddedToken& token = tokens_[match->token];
    if (token.single_word && ((begin > 0 && word_at(text, before(text, begin))) || word_at(text, end)))
      continue;
    if (token.lstrip) begin = skip_space_left(text, begin, done);
    if (token.rstrip) end = skip_space_right(text, end);
    if (done < begin) segments.push_back({{done, begin}, std::nullopt});
    // A token that strips left may find itself within the white space that the one before has swallowed: then
    // nothing is left of it, and the reference drops it.
    if (begin < end) segments.push_back({{begin, end}, token.id});
    done = end;
  }
  if (done != text.size()) segments.push_back({{done, text.size()}, std::nullopt});
  return segments;
}

const AddedToken* AddedTokens::by_id(TokenId id) const {
  const auto row = by_id_.find(id);
  return row == by_id_.end() ? nullptr : &tokens_[row->second];
}

const AddedToken* AddedTokens::by_content(std::string_view content) const {
  const auto row = by_content_.find(content);
  return row == by_content_.end() ? nullptr : &tokens_[row->second];
}

}  // namespace qtool
