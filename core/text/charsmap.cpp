#include "core/text/charsmap.h"

#include "core/error.h"
#include "core/text/unicode.h"
#include "core/text/utf8.h"

namespace qtool {

namespace {

constexpr std::size_t kWholeGraphemeBytes = 6;  // a grapheme of fewer bytes is looked up as a whole

std::uint32_t read_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = (value << 8) | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// A unit of the double array (Darts-clone): a node of the trie, or the value that hangs below one.
bool has_leaf(std::uint32_t unit) { return ((unit >> 8) & 1) == 1; }
std::uint32_t value_of(std::uint32_t unit) { return unit & 0x7FFFFFFFu; }
std::uint32_t label_of(std::uint32_t unit) { return unit & (0x80000000u | 0xFFu); }
std::size_t offset_of(std::uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

Error malformed(const std::string& why) {
  return Error(ExitCode::kMalformed, "the precompiled character map is damaged: " + why);
}

}  // namespace

Charsmap::Charsmap(std::string_view table) {
  if (table.size() < 4) throw malformed("it has " + std::to_string(table.size()) + " bytes");
  const std::size_t trie_bytes = read_u32(table, 0);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > table.size() - 4)
    throw malformed("its trie should have " + std::to_string(trie_bytes) + " bytes, the whole has " +
                    std::to_string(table.size()));
  for (std::size_t at = 4; at < 4 + trie_bytes; at += 4) units_.push_back(read_u32(table, at));
  replacements_ = table.substr(4 + trie_bytes);
  if (!is_valid_utf8(replacements_)) throw malformed("its replacements are not UTF-8");
}

std::optional<std::string_view> Charsmap::replacement(std::string_view chunk) const {
  std::size_t node = offset_of(units_[0]);
  for (const char c : chunk) {
    const std::uint32_t byte = static_cast<unsigned char>(c);
    if (byte == 0) return std::nullopt;
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) return std::nullopt;
    const std::uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    const std::size_t begin = node < units_.size() ? value_of(units_[node]) : replacements_.size();
    const bool is_continuation =
        begin < replacements_.size() && (static_cast<unsigned char>(replacements_[begin]) & 0xC0u) == 0x80u;
    if (begin >= replacements_.size() || is_continuation)
      throw malformed("it has no replacement for \"" + escaped(chunk) + "\" where it says");
    return std::string_view(replacements_.c_str() + begin);
  }
  return std::nullopt;
}

void Charsmap::append(std::string_view grapheme, std::string& out) const {
  if (grapheme.size() < kWholeGraphemeBytes)
    if (const auto text = replacement(grapheme)) {
      out += *text;
      return;
    }
  for (std::size_t i = 0; i < grapheme.size();) {
    const std::size_t begin = i;
    next_code_point(grapheme, i);
    const std::string_view character = grapheme.substr(begin, i - begin);
    out += replacement(character).value_or(character);
  }
}

std::string Charsmap::normalize(std::string_view text, std::size_t max_bytes) const {
  std::string out;
  out.reserve(text.size());
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = grapheme_end(text, begin);
    append(text.substr(begin, end - begin), out);
    if (out.size() > max_bytes)
      throw malformed("it blows the text up to more than " + std::to_string(max_bytes) + " bytes");
    begin = end;
  }
  return out;
}

}  // namespace qtool
