// HTTP as far as the Hub needs it: GET with redirects, ranges and a token that never leaves its host.
//
// Redirects are followed here rather than by libcurl, because the token must be attached or left out hop by
// hop: large files are answered by a redirect to another host, which must not see it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/hub/cancellation.h"
#include "formats/hub/settings.h"

namespace qtool {

using HttpHeaders = std::map<std::string, std::string>;  // names in lower case

// The beginning of an answer.
struct HttpHead {
  int status = 0;
  HttpHeaders headers = {};        // of the answer itself
  HttpHeaders first_headers = {};  // of the first hop: what the Hub says of a file that lies elsewhere

  bool ok() const { return status >= 200 && status < 300; }
  std::string header(const std::string& name) const;  // empty if absent
  // An ETag as the name of a blob: without W/ and quotes.
  std::string etag() const;
};

// What became of a request. Whatever the network or the server did is said here, not thrown.
struct HttpResult {
  HttpHead head = {};
  std::string failure = {};        // why the exchange did not come to its end; empty: it did
  bool transient = false;          // of a failure: another try may go better
  std::int64_t retry_after_s = 0;  // as the server asked
};

struct HttpRequest {
  std::string url;
  std::string range = {};     // "10-", "10-19"; empty: everything
  std::string if_range = {};  // with `range`: the ETag that must not have changed
};

// Takes the body of a successful answer, piece by piece. What it throws ends the request and is thrown by
// get().
using HttpSink = std::function<void(const HttpHead& head, std::span<const std::byte> bytes)>;

// The connections of one thread; kept open between requests.
class HttpSession {
 public:
  // Both must outlive the session.
  HttpSession(const HubSettings& settings, const Cancellation& cancellation);
  HttpSession(HttpSession&&) noexcept;
  ~HttpSession();

  // One try. Errors: kInterrupted, and those of `sink`.
  HttpResult get(const HttpRequest& request, const HttpSink& sink);

 private:
  struct Exchange;
  struct Curl;
  void hop(const std::string& url, const HttpRequest& request, Exchange& exchange);
  const HubSettings& settings_;
  const Cancellation& cancellation_;
  std::unique_ptr<Curl> curl_;
};

}  // namespace qtool
