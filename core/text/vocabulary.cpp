#include "core/text/vocabulary.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "core/error.h"
#include "core/limits.h"

namespace qtool {

namespace {

constexpr TokenId kEmpty = -1;

Error malformed(const std::string& text) { return Error(ExitCode::kMalformed, text); }

}  // namespace

std::int64_t id_limit(std::size_t entries) { return 4 * static_cast<std::int64_t>(entries) + (1 << 17); }

Vocabulary::Vocabulary(std::vector<std::pair<std::string, TokenId>> entries) {
  if (entries.size() > kMaxTokens)
    throw malformed("a vocabulary of " + std::to_string(entries.size()) + " tokens, more than " +
                    std::to_string(kMaxTokens));
  TokenId highest = -1;
  for (const auto& [text, id] : entries) {
    if (text.size() > kMaxTokenBytes)
      throw malformed("the token " + std::to_string(id) + " has " + std::to_string(text.size()) +
                      " bytes, more than " + std::to_string(kMaxTokenBytes));
    if (id < 0 || id >= id_limit(entries.size()))
      throw malformed("the token \"" + escaped(text) + "\" has the id " + std::to_string(id) +
                      ", impossible in a vocabulary of " + std::to_string(entries.size()) + " tokens");
    highest = std::max(highest, id);
  }
  tokens_.resize(static_cast<std::size_t>(highest) + 1);
  slots_.assign(std::bit_ceil(2 * entries.size() + 1), kEmpty);
  std::size_t probes_left = kMaxProbesPerEntry * slots_.size();
  for (auto& entry : entries) {
    const auto& [text, id] = entry;
    Token& token = tokens_[static_cast<std::size_t>(id)];
    if (token.used)
      throw malformed("the id " + std::to_string(id) + " belongs to two tokens, \"" + escaped(token.text) +
                      "\" and \"" + escaped(text) + "\"");
    const std::size_t place = slot_of(text);
    const std::size_t probes = (place - home_of(text)) & (slots_.size() - 1);
    if (probes > probes_left) throw malformed("the tokens are chosen to be slow to look up");
    probes_left -= probes;
    TokenId& slot = slots_[place];
    if (slot != kEmpty)
      throw malformed("the token \"" + escaped(text) + "\" has two ids, " + std::to_string(slot) + " and " +
                      std::to_string(id));
    slot = id;
    token = {std::move(entry.first), true};
  }
}

std::size_t Vocabulary::home_of(std::string_view text) const {
  return std::hash<std::string_view>{}(text) & (slots_.size() - 1);
}

std::size_t Vocabulary::slot_of(std::string_view text) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = home_of(text);
  while (slots_[slot] != kEmpty && tokens_[static_cast<std::size_t>(slots_[slot])].text != text)
    slot = (slot + 1) & mask;
  return slot;
}

std::optional<TokenId> Vocabulary::find(std::string_view text) const {
  const TokenId id = slots_[slot_of(text)];
  if (id == kEmpty) return std::nullopt;
  return id;
}

std::array<std::optional<TokenId>, 256> byte_tokens(const Vocabulary& vocabulary) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::array<std::optional<TokenId>, 256> ids;
  for (std::size_t byte = 0; byte < 256; ++byte)
    ids[byte] = vocabulary.find(std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">");
  return ids;
}

const std::string* Vocabulary::text_of(TokenId id) const {
  if (id < 0 || id >= size()) return nullptr;
  const Token& token = tokens_[static_cast<std::size_t>(id)];
  return token.used ? &token.text : nullptr;
}

}  // namespace qtool
