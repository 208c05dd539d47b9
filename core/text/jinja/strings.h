// Python's str methods on UTF-8. Positions and lengths count characters (code points); what they take is
// valid UTF-8.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qtool::jinja {

bool is_space(char32_t c);      // str.isspace()
bool is_printable(char32_t c);  // str.isprintable()
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_numeric(char32_t c);  // nearly: general category N*
bool is_upper(char32_t c);
bool is_lower(char32_t c);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string title(std::string_view text);  // str.title(); the filter `title` is title_words()
std::string title_words(std::string_view text);
std::string swapcase(std::string_view text);

enum class Side : std::uint8_t { kLeft = 1, kRight = 2, kBoth = 3 };
// Without `characters`: whitespace.
std::string_view strip(std::string_view text, Side side,
                       const std::optional<std::string>& characters = std::nullopt);

// str.split and str.rsplit; without a separator at runs of whitespace. `limit` < 0: no limit. Errors: empty
// separator.
std::vector<std::string> split(std::string_view text, const std::optional<std::string>& separator,
                               std::int64_t limit);
std::vector<std::string> rsplit(std::string_view text, const std::optional<std::string>& separator,
                                std::int64_t limit);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);

// `limit` < 0: all. An empty `old` stands between all characters.
std::string replace(std::string_view text, std::string_view old, std::string_view by, std::int64_t limit);
// What replace() would return, in bytes.
std::int64_t replaced_bytes(std::string_view text, std::string_view old, std::string_view by,
                            std::int64_t limit);
std::int64_t count(std::string_view text, std::string_view part);

// The byte where character `index` begins; the end for what lies behind it.
std::size_t byte_of(std::string_view text, std::int64_t index);
// Characters, each as its own text.
std::vector<std::string_view> characters(std::string_view text);

}  // namespace qtool::jinja
