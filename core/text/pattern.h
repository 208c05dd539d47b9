// What Split and Replace look for: a fixed text or a regular expression.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/text/regex.h"

namespace qtool {

using Pattern = std::variant<std::string, Regex>;

// Occurrences from left to right without overlap, appended to `out`.
void find_all(const Pattern& pattern, std::string_view text, std::vector<Span>& out);

// `text` with every occurrence replaced by `content` (taken literally). `mark` (may be null) is a position in
// `text` and becomes the one in the result; it comes to stand in front of what replaces an occurrence that it
// lies within. Errors: kMalformed when the result would be larger than `max_bytes`.
std::string replace_all(const Pattern& pattern, std::string_view text, std::string_view content,
                        std::size_t max_bytes, std::size_t* mark = nullptr);

}  // namespace qtool
