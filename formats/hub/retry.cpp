#include "formats/hub/retry.h"

#include <charconv>

#include "formats/hub/url.h"

namespace qtool {
namespace {

constexpr int kMostTries = 5;
constexpr std::int64_t kLongestWait = 300;  // seconds; the Hub counts requests in windows of five minutes

bool worth_another(const HttpResult& result) {
  if (!result.failure.empty()) return result.transient;
  const int status = result.head.status;
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

// The Hub's own word for when its counter starts again: RateLimit: "api";r=0;t=55
std::int64_t rate_limit_seconds(const HttpHead& head) {
  const std::string limit = head.header("ratelimit");
  const std::size_t at = limit.find(";t=");
  std::int64_t seconds = 0;
  if (head.status == 429 && at != std::string::npos)
    std::from_chars(limit.data() + at + 3, limit.data() + limit.size(), seconds);
  return seconds;
}

std::string reason_of(const HttpResult& result) {
  if (!result.failure.empty()) return result.failure;
  if (result.head.status == 429) return "too many requests (429)";
  return "the server answers " + std::to_string(result.head.status);
}

}  // namespace

void Retry::wait(const HttpResult& result) {
  const std::int64_t asked = std::max(result.retry_after_s, rate_limit_seconds(result.head));
  if (!worth_another(result) || ++tries_ >= kMostTries || asked > kLongestWait)
    throw hub_error(result, what_, settings_);
  const auto doubled = settings_.pause * (1 << (tries_ - 1));
  const auto pause = std::max<std::chrono::milliseconds>(doubled, std::chrono::seconds(asked));
  observer_.note(what_ + ": " + reason_of(result) + "; next try in " +
                 std::to_string((pause.count() + 999) / 1000) + " s");
  cancellation_.sleep(pause);
}

Error hub_error(const HttpResult& result, const std::string& what, const HubSettings& settings) {
  const int status = result.head.status;
  const std::string code = result.head.header("x-error-code");
  const std::string host = shown_url(settings.endpoint);
  const std::string token = settings.token.empty() ? "set HF_TOKEN or log in with 'hf auth login'"
                                                   : "check that the token in use has that right";
  const auto error = [&](ExitCode exit, const std::string& sentence) {
    return Error(exit, escaped(what) + ": " + sentence);
  };
  if (!result.failure.empty())
    return error(ExitCode::kNetwork, "cannot be fetched from " + host + ": " + result.failure +
                                         "; --offline uses what the cache holds");
  if (code == "GatedRepo")
    return error(ExitCode::kNetwork, "is gated: ask for access on its page at " + host + ", then " + token);
  if (code == "RevisionNotFound" || (status == 404 && code.empty() && what.find('@') != std::string::npos))
    return error(ExitCode::kNotFound,
                 "there is no such revision on " + host + "; look for its branches and tags there");
  if (code == "EntryNotFound") return error(ExitCode::kNotFound, "there is no such file on " + host);
  if (status == 401)  // the Hub's answer to strangers also for what does not exist
    return error(ExitCode::kNetwork,
                 host + " does not show it (401): check the spelling; if it is private or gated, " + token);
  if (status == 403) return error(ExitCode::kNetwork, host + " refuses it (403): " + token);
  if (status == 404)
    return error(ExitCode::kNotFound, "there is no such model on " + host +
                                          "; check the spelling of org/name; if it is private, " + token);
  if (status == 429)
    return error(
        ExitCode::kNetwork,
        host + " takes no more requests for now (429)" +
            (result.retry_after_s > 0 ? "; it asks to wait " + std::to_string(result.retry_after_s) + " s"
                                      : "") +
            (settings.token.empty() ? "; with a token (HF_TOKEN) more are allowed" : ""));
  return error(ExitCode::kNetwork, host + " answers " + std::to_string(status));
}

}  // namespace qtool
