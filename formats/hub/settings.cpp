#include "formats/hub/settings.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>

#include "core/error.h"
#include "formats/file.h"
#include "formats/hub/url.h"

namespace qtool {
namespace {

constexpr const char* kPublicEndpoint = "https://huggingface.co";
constexpr std::int64_t kLargestTokenFile = 4096;

// The first of the variables that is set and not empty.
std::optional<std::string> variable(std::initializer_list<const char*> names) {
  for (const char* const name : names)
    if (const char* const value = std::getenv(name); value != nullptr && *value != '\0') return value;
  return std::nullopt;
}

bool is_on(std::initializer_list<const char*> names) {
  std::string value = variable(names).value_or("");
  std::transform(value.begin(), value.end(), value.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

std::string home() { return variable({"HOME"}).value_or("."); }

bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

// As Python's expanduser and expandvars: "~/x", "$NAME", "${NAME}"; what is not set stays as it is written.
std::string expanded(const std::string& path) {
  std::string text = path == "~" || path.starts_with("~/") ? home() + path.substr(1) : path;
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t begin = i + 1, end = begin, next = begin;
    if (text[i] == '$' && begin < text.size() && text[begin] == '{') {
      end = text.find('}', ++begin);
      next = end + 1;
    } else if (text[i] == '$') {
      while (end < text.size() && is_word(text[end])) ++end;
      next = end;
    }
    const char* value = nullptr;
    if (text[i] == '$' && end != std::string::npos && end > begin)
      value = std::getenv(text.substr(begin, end - begin).c_str());
    if (value != nullptr) {
      out += value;
      i = next;
    } else {
      out += text[i++];
    }
  }
  return out;
}

std::string hugging_face_home() {
  if (const auto set = variable({"HF_HOME"})) return expanded(*set);
  return expanded(variable({"XDG_CACHE_HOME"}).value_or(home() + "/.cache") + "/huggingface");
}

std::string cache_folder() {
  const auto set = variable({"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  return set ? expanded(*set) : hugging_face_home() + "/hub";
}

std::string endpoint() {
  std::string url = variable({"HF_ENDPOINT"}).value_or(kPublicEndpoint);
  while (url.ends_with('/')) url.pop_back();
  if (!is_plain_endpoint(url))
    throw Error(ExitCode::kUsage, "HF_ENDPOINT is no address that can be used; it looks like " +
                                      std::string(kPublicEndpoint) +
                                      ": http or https, no user name, no '?' or '#'");
  return url;
}

std::string trimmed(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string token() {
  if (is_on({"HF_HUB_DISABLE_IMPLICIT_TOKEN"})) return "";
  std::string found = trimmed(variable({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}).value_or(""));
  if (found.empty()) {
    const auto set = variable({"HF_TOKEN_PATH"});
    const std::string path = set ? expanded(*set) : hugging_face_home() + "/token";
    if (exists(path)) found = trimmed(read_input(path, kLargestTokenFile));
  }
  // It becomes a line of a request: a line break within it would begin another. It is not shown: it is
  // secret.
  if (!std::all_of(found.begin(), found.end(), [](char c) { return c > 0x20 && c < 0x7f; }))
    throw Error(ExitCode::kUsage,
                "the Hub token (HF_TOKEN or the token file) holds characters that no token has");
  return found;
}

std::chrono::seconds timeout(std::chrono::seconds fallback) {
  const auto set = variable({"HF_HUB_DOWNLOAD_TIMEOUT"});
  if (!set) return fallback;
  int seconds = 0;
  const auto [end, failure] = std::from_chars(set->data(), set->data() + set->size(), seconds);
  if (failure != std::errc() || end != set->data() + set->size() || seconds < 1 || seconds > 86400)
    throw Error(ExitCode::kUsage,
                "HF_HUB_DOWNLOAD_TIMEOUT must be a number of seconds, is '" + escaped(*set) + "'");
  return std::chrono::seconds(seconds);
}

}  // namespace

HubSettings hub_settings() {
  HubSettings settings;
  settings.cache = cache_folder();
  settings.endpoint = endpoint();
  settings.token = token();
  settings.offline =
      is_on({"HF_HUB_OFFLINE"}) || (!variable({"HF_HUB_OFFLINE"}) && is_on({"TRANSFORMERS_OFFLINE"}));
  const std::string bundle = variable({"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"}).value_or("");
  (is_directory(bundle) ? settings.ca_folder : settings.ca_file) = bundle;
  if (const auto folder = variable({"SSL_CERT_DIR"})) settings.ca_folder = *folder;
  settings.timeout = timeout(settings.timeout);
  return settings;
}

}  // namespace qtool
