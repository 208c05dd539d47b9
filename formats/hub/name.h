// How a model is named on the Hub, and what names from elsewhere may look like before they become paths.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace qtool {

inline constexpr std::string_view kDefaultRevision = "main";

struct HubName {
  std::string repository;  // "org/name"
  std::string revision;    // branch, tag or commit

  std::string text() const;  // "org/name", "org/name@v1"
};

// "org/name[@revision]" under huggingface_hub's rules: letters, digits, '-', '_', '.', no part that begins or
// ends with '-' or '.', no "--" or "..", at most 96 characters. `revision` is that of --revision or empty.
// Nothing if `text` is no such name. Errors: kUsage, when it is one but its revision is impossible or
// contradicts `revision`.
std::optional<HubName> hub_name_of(const std::string& text, const std::string& revision);

bool is_hex(std::string_view text, std::size_t digits);                                      // lower case
inline bool is_commit(std::string_view text) { return is_hex(text, 40); }                    // of git
inline bool is_etag(std::string_view text) { return is_hex(text, 40) || is_hex(text, 64); }  // of a blob

// Whether a file's path in a repository is one inside it that any file system takes: relative, no empty, "."
// or ".." part, no backslash, no control characters, no part over 255 bytes.
bool is_safe_path(std::string_view path);

}  // namespace qtool
