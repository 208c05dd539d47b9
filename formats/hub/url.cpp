#include "formats/hub/url.h"

#include <curl/curl.h>
#include <memory>

#include "core/error.h"

namespace qtool {
namespace {

struct UrlDeleter {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, UrlDeleter>;

// Nothing unless all of `texts`, each relative to the one before, are http or https addresses.
Url parsed(std::initializer_list<const std::string*> texts) {
  Url url(curl_url());
  if (!url) throw Error(ExitCode::kMemory, "out of memory");
  for (const std::string* const text : texts) {
    if (text->find('\0') != std::string::npos) return nullptr;
    if (curl_url_set(url.get(), CURLUPART_URL, text->c_str(), 0) != CURLUE_OK) return nullptr;
  }
  return url;
}

std::string part(const Url& url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url.get(), which, &text, flags) != CURLUE_OK || text == nullptr) return "";
  const std::unique_ptr<char, decltype(&curl_free)> owner(text, curl_free);
  return text;
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

bool is_web(const Url& url) {
  const std::string scheme = url ? part(url, CURLUPART_SCHEME) : "";
  return (scheme == "https" || scheme == "http") && !part(url, CURLUPART_HOST).empty();
}

}  // namespace

std::string origin_of(const std::string& text) {
  const Url url = parsed({&text});
  if (!is_web(url)) return "";
  return part(url, CURLUPART_SCHEME) + "://" + lower(part(url, CURLUPART_HOST)) + ":" +
         part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

std::optional<std::string> redirected(const std::string& from, const std::string& location) {
  const Url url = parsed({&from, &location});
  if (!is_web(url)) return std::nullopt;
  if (lower(from).starts_with("https:") && part(url, CURLUPART_SCHEME) != "https") return std::nullopt;
  return part(url, CURLUPART_URL);
}

bool is_plain_endpoint(const std::string& text) {
  const Url url = parsed({&text});
  return is_web(url) && lower(text).starts_with("http") && part(url, CURLUPART_USER).empty() &&
         part(url, CURLUPART_PASSWORD).empty() && text.find_first_of("?#@\\ ") == std::string::npos;
}

std::string url_quoted(std::string_view text, bool keep_slashes) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       c == '-' || c == '_' || c == '.' || c == '~' || (c == '/' && keep_slashes);
    if (plain)
      out += c;
    else
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
  }
  return out;
}

std::string shown_url(const std::string& text) {
  const Url url = parsed({&text});
  return is_web(url) ? escaped(origin_of(text) + part(url, CURLUPART_PATH)) : "an address that is none";
}

}  // namespace qtool
