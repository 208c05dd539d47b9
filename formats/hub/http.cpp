#include "formats/hub/http.h"

#include <curl/curl.h>
#include <exception>
#include <string_view>

#include "formats/hub/url.h"

namespace qtool {
namespace {

constexpr int kMostRedirects = 5;
constexpr std::int64_t kLargestErrorBody = 1 << 20;  // nobody reads it
constexpr std::size_t kMostHeaders = 256;
constexpr long kConnectSeconds = 15;

struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, ListDeleter>;

void append(HeaderList& list, const std::string& line) {
  curl_slist* const longer = curl_slist_append(list.get(), line.c_str());
  if (longer == nullptr) throw std::bad_alloc();
  (void)list.release();  // its head is that of the longer list
  list.reset(longer);
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// Failures that come and go. A host without an address or a certificate that is not trusted stays so.
bool is_transient(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return true;
    default:
      return false;
  }
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// libcurl wants to be started once, before threads use it.
void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) throw internal_error("libcurl does not start");
}

}  // namespace

std::string HttpHead::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

std::string HttpHead::etag() const {
  std::string text = header("etag");
  if (text.starts_with("W/")) text.erase(0, 2);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  return text;
}

struct HttpSession::Curl {
  struct Deleter {
    void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
  };
  std::unique_ptr<CURL, Deleter> handle;
};

// One request under way, as libcurl's callbacks see it. They are called from C: nothing may be thrown
// through.
struct HttpSession::Exchange {
  CURL* handle = nullptr;
  const Cancellation* cancellation = nullptr;
  const HttpSink* sink = nullptr;
  HttpResult result;
  std::int64_t refused_bytes = 0;  // of an answer that is no success
  std::exception_ptr thrown;

  static std::size_t on_header(char* text, std::size_t size, std::size_t count, void* self) {
    auto& exchange = *static_cast<Exchange*>(self);
    try {
      const std::string_view line(text, size * count);
      HttpHeaders& headers = exchange.result.head.headers;
      const std::size_t colon = line.find(':');
      if (line.starts_with("HTTP/")) {
        headers.clear();  // an answer before the answer, such as 100 Continue
      } else if (colon != std::string_view::npos && headers.size() < kMostHeaders) {
        std::string name(line.substr(0, colon));
        for (char& c : name)
          if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
        headers[name] = std::string(trimmed(line.substr(colon + 1)));
      }
      return size * count;
    } catch (...) {
      exchange.thrown = std::current_exception();
      return 0;
    }
  }

  static std::size_t on_body(char* bytes, std::size_t size, std::size_t count, void* self) {
    auto& exchange = *static_cast<Exchange*>(self);
    const std::size_t length = size * count;
    try {
      HttpHead& head = exchange.result.head;
      head.status = exchange.status();
      if (head.ok())
        (*exchange.sink)(head, std::as_bytes(std::span(bytes, length)));
      else if ((exchange.refused_bytes += static_cast<std::int64_t>(length)) > kLargestErrorBody)
        return 0;
      return length;
    } catch (...) {
      exchange.thrown = std::current_exception();
      return 0;
    }
  }

  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<Exchange*>(self)->cancellation->raised() ? 1 : 0;
  }

  int status() const {
    long code = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &code);
    return static_cast<int>(code);
  }
};

HttpSession::HttpSession(const HubSettings& settings, const Cancellation& cancellation)
    : settings_(settings), cancellation_(cancellation), curl_(std::make_unique<Curl>()) {
  start_curl();
  curl_->handle.reset(curl_easy_init());
  if (!curl_->handle) throw std::bad_alloc();
}

HttpSession::HttpSession(HttpSession&&) noexcept = default;
HttpSession::~HttpSession() = default;

// One exchange without redirects. What it adds to `exchange` besides the answer: failure, transient, thrown.
void HttpSession::hop(const std::string& url, const HttpRequest& request, Exchange& exchange) {
  CURL* const curl = curl_->handle.get();
  curl_easy_reset(curl);  // options only; connections stay
  exchange.handle = curl;
  exchange.result = {.head = {.first_headers = std::move(exchange.result.head.first_headers)}};
  exchange.refused_bytes = 0;

  HeaderList headers;
  append(headers, "Accept-Encoding: identity");  // sizes and digests are those of the file itself
  if (!settings_.token.empty() && origin_of(url) == origin_of(settings_.endpoint))
    append(headers, "Authorization: Bearer " + settings_.token);
  if (!request.range.empty() && !request.if_range.empty()) append(headers, "If-Range: " + request.if_range);

  char reason[CURL_ERROR_SIZE] = "";
  const auto set = [curl](CURLoption option, auto value) {
    if (curl_easy_setopt(curl, option, value) != CURLE_OK)
      throw internal_error("libcurl refuses option " + std::to_string(option));
  };
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_USERAGENT, settings_.user_agent.c_str());
  set(CURLOPT_NOSIGNAL, 1L);  // with threads, no SIGALRM
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &Exchange::on_progress);
  set(CURLOPT_XFERINFODATA, &exchange);
  set(CURLOPT_HEADERFUNCTION, &Exchange::on_header);
  set(CURLOPT_HEADERDATA, &exchange);
  set(CURLOPT_WRITEFUNCTION, &Exchange::on_body);
  set(CURLOPT_WRITEDATA, &exchange);
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(CURLOPT_ERRORBUFFER, reason);
  set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings_.timeout.count()));
  set(CURLOPT_BUFFERSIZE, 256L << 10);
  if (!request.range.empty()) set(CURLOPT_RANGE, request.range.c_str());
  if (!settings_.ca_file.empty()) set(CURLOPT_CAINFO, settings_.ca_file.c_str());
  if (!settings_.ca_folder.empty()) set(CURLOPT_CAPATH, settings_.ca_folder.c_str());

  const CURLcode code = curl_easy_perform(curl);
  exchange.result.head.status = exchange.status();
  curl_off_t wait = 0;
  if (curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK) exchange.result.retry_after_s = wait;
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
  if (exchange.thrown) std::rethrow_exception(exchange.thrown);
  if (code == CURLE_ABORTED_BY_CALLBACK) cancellation_.check();
  if (code == CURLE_OK || code == CURLE_WRITE_ERROR) return;  // the latter: enough of an error page
  exchange.result.failure = escaped(*reason != '\0' ? reason : curl_easy_strerror(code));
  exchange.result.transient = is_transient(code);
}

HttpResult HttpSession::get(const HttpRequest& request, const HttpSink& sink) {
  Exchange exchange;
  exchange.cancellation = &cancellation_;
  exchange.sink = &sink;
  std::string url = request.url;
  for (int hops = 0;; ++hops) {
    hop(url, request, exchange);
    HttpResult& result = exchange.result;
    if (hops == 0) result.head.first_headers = result.head.headers;
    if (!result.failure.empty() || !is_redirect(result.head.status)) return std::move(result);
    const auto next = redirected(url, result.head.header("location"));
    if (!next || hops == kMostRedirects) {
      result.failure = next ? "too many redirects"
                            : "redirected to where qtool does not follow: " +
                                  escaped(shown_url(result.head.header("location")));
      return std::move(result);
    }
    url = *next;
  }
}

}  // namespace qtool
