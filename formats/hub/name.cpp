#include "formats/hub/name.h"

#include <algorithm>

#include "core/error.h"

namespace qtool {
namespace {

constexpr std::size_t kLongestName = 96;
constexpr std::size_t kLongestPart = 255;  // NAME_MAX of the usual file systems
constexpr std::size_t kLongestPath = 1024;

bool is_letter_or_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool is_name_part(std::string_view part) {
  const auto allowed = [](char c) { return is_letter_or_digit(c) || c == '-' || c == '_' || c == '.'; };
  const auto edge = [](char c) { return c == '.' || c == '-'; };
  return !part.empty() && std::all_of(part.begin(), part.end(), allowed) && !edge(part.front()) &&
         !edge(part.back());
}

bool is_repository(std::string_view text) {
  const std::size_t slash = text.find('/');
  return slash != std::string_view::npos && text.size() <= kLongestName &&
         is_name_part(text.substr(0, slash)) && is_name_part(text.substr(slash + 1)) &&
         text.find("--") == std::string_view::npos && text.find("..") == std::string_view::npos &&
         !text.ends_with(".git");
}

// What git allows as the name of a branch or tag, as far as a path or a URL could be harmed by it.
bool is_revision(std::string_view text) {
  return is_safe_path(text) && text.find_first_of(" ~^:?*[") == std::string_view::npos &&
         text.find("..") == std::string_view::npos && text.find("@{") == std::string_view::npos &&
         text.front() != '-' && text.front() != '.';
}

}  // namespace

std::string HubName::text() const {
  return revision == kDefaultRevision ? repository : repository + "@" + revision;
}

bool is_hex(std::string_view text, std::size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > kLongestPath) return false;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '\\') return false;
  }
  while (true) {
    const std::size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == ".." || part.size() > kLongestPart) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

std::optional<HubName> hub_name_of(const std::string& text, const std::string& revision) {
  const std::size_t at = text.find('@');
  if (!is_repository(std::string_view(text).substr(0, at))) return std::nullopt;
  HubName name{text.substr(0, at), revision.empty() ? std::string(kDefaultRevision) : revision};
  if (at != std::string::npos) {
    const std::string written = text.substr(at + 1);
    if (!revision.empty() && revision != written)
      throw Error(ExitCode::kUsage,
                  "'" + escaped(text) + "' and --revision " + escaped(revision) + " disagree");
    name.revision = written;
  }
  if (!is_revision(name.revision))
    throw Error(ExitCode::kUsage, "'" + escaped(name.revision) +
                                      "' cannot be a revision of a Hub model; it is a branch, a tag or a "
                                      "commit of 40 hexadecimal digits");
  return name;
}

}  // namespace qtool
