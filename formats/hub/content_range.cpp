#include "formats/hub/content_range.h"

#include <charconv>

namespace qtool {
namespace {

// Reads a natural number and the character behind it.
bool read_number(std::string_view& text, std::int64_t& number, char behind) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || number < 0) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (behind == '\0') return text.empty();
  if (!text.starts_with(behind)) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::optional<ContentRange> content_range_of(const HttpHead& head) {
  constexpr std::string_view kUnit = "bytes ";
  const std::string value = head.header("content-range");
  std::string_view text = value;
  if (!text.starts_with(kUnit)) return std::nullopt;
  text.remove_prefix(kUnit.size());
  ContentRange range;
  std::int64_t last = 0;
  if (!read_number(text, range.begin, '-') || !read_number(text, last, '/') ||
      !read_number(text, range.total, '\0'))
    return std::nullopt;
  if (last < range.begin || last >= range.total) return std::nullopt;
  range.end = last + 1;
  return range;
}

}  // namespace qtool
