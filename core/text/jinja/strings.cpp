#include "core/text/jinja/strings.h"

#include <algorithm>

#include "core/text/jinja/value.h"
#include "core/text/utf8.h"

namespace qtool::jinja {

std::string_view strip(std::string_view text, Side side, const std::optional<std::string>& wanted) {
  const auto goes = [&wanted](std::string_view character) {
    std::size_t at = 0;
    return wanted ? wanted->find(character) != std::string::npos : is_space(next_code_point(character, at));
  };
  const auto has = [side](Side one) { return (static_cast<int>(side) & static_cast<int>(one)) != 0; };
  while (has(Side::kLeft) && !text.empty()) {
    const std::size_t bytes = byte_of(text, 1);
    if (!goes(text.substr(0, bytes))) break;
    text.remove_prefix(bytes);
  }
  while (has(Side::kRight) && !text.empty()) {
    std::size_t begin = text.size() - 1;
    while ((text[begin] & 0xC0) == 0x80) --begin;
    if (!goes(text.substr(begin))) break;
    text.remove_suffix(text.size() - begin);
  }
  return text;
}

namespace {

std::vector<std::string> split_at_spaces(std::string_view text, std::int64_t limit) {
  std::vector<std::string> parts;
  text = strip(text, Side::kLeft);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(parts.size()) == limit) {
      parts.emplace_back(strip(text, Side::kRight));
      break;
    }
    std::size_t end = 0, at = 0;
    while (at < text.size() && !is_space(next_code_point(text, at))) end = at;
    parts.emplace_back(text.substr(0, end));
    text = strip(text.substr(end), Side::kLeft);
  }
  return parts;
}

// From the right: parts come last first.
std::vector<std::string> rsplit_at_spaces(std::string_view text, std::int64_t limit) {
  std::vector<std::string> parts;
  text = strip(text, Side::kRight);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(parts.size()) == limit) {
      parts.emplace_back(strip(text, Side::kLeft));
      break;
    }
    std::size_t begin = text.size();
    while (begin > 0) {
      std::size_t before = begin - 1;
      while ((text[before] & 0xC0) == 0x80) --before;
      std::size_t at = before;
      if (is_space(next_code_point(text, at))) break;
      begin = before;
    }
    parts.emplace_back(text.substr(begin));
    text = strip(text.substr(0, begin), Side::kRight);
  }
  return parts;
}

}  // namespace

std::vector<std::string> split(std::string_view text, const std::optional<std::string>& separator,
                               std::int64_t limit) {
  if (!separator) return split_at_spaces(text, limit);
  if (separator->empty()) fail("split() with an empty separator");
  std::vector<std::string> parts;
  for (;;) {
    const std::size_t end = text.find(*separator);
    if (end == std::string_view::npos || (limit >= 0 && static_cast<std::int64_t>(parts.size()) == limit))
      break;
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(end + separator->size());
  }
  parts.emplace_back(text);
  return parts;
}

std::vector<std::string> rsplit(std::string_view text, const std::optional<std::string>& separator,
                                std::int64_t limit) {
  if (separator && separator->empty()) fail("rsplit() with an empty separator");
  std::vector<std::string> parts;
  if (!separator) {
    parts = rsplit_at_spaces(text, limit);
  } else {
    for (;;) {
      const std::size_t begin = text.rfind(*separator);
      if (begin == std::string_view::npos || (limit >= 0 && static_cast<std::int64_t>(parts.size()) == limit))
        break;
      parts.emplace_back(text.substr(begin + separator->size()));
      text = text.substr(0, begin);
    }
    parts.emplace_back(text);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  const auto ends_line = [](char32_t c) {
    return (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
  };
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t here = at;
    const char32_t c = next_code_point(text, at);
    if (!ends_line(c)) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.emplace_back(text.substr(begin, (keep_ends ? at : here) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

std::int64_t count(std::string_view text, std::string_view part) {
  if (part.empty()) return length_of(text) + 1;
  std::int64_t found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) ++found;
  return found;
}

std::int64_t replaced_bytes(std::string_view text, std::string_view old, std::string_view by,
                            std::int64_t limit) {
  const std::int64_t places = count(text, old);
  const auto change = static_cast<std::int64_t>(by.size()) - static_cast<std::int64_t>(old.size());
  return static_cast<std::int64_t>(text.size()) + change * (limit < 0 ? places : std::min(places, limit));
}

std::string replace(std::string_view text, std::string_view old, std::string_view by, std::int64_t limit) {
  std::string out;
  std::size_t begin = 0;  // of what is not yet copied
  for (std::size_t at = 0; limit != 0;) {
    const std::size_t found = text.find(old, at);
    if (found == std::string_view::npos) break;
    out += text.substr(begin, found - begin);
    out += by;
    begin = found + old.size();
    --limit;
    if (old.empty() && found == text.size()) break;
    at = old.empty() ? found + byte_of(text.substr(found), 1) : begin;
  }
  return out += text.substr(std::min(begin, text.size()));
}

std::size_t byte_of(std::string_view text, std::int64_t index) {
  std::size_t at = 0;
  for (; index > 0 && at < text.size(); --index) {
    ++at;
    while (at < text.size() && (text[at] & 0xC0) == 0x80) ++at;
  }
  return at;
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    out.push_back(text.substr(0, byte_of(text, 1)));
    text.remove_prefix(out.back().size());
  }
  return out;
}

}  // namespace qtool::jinja
