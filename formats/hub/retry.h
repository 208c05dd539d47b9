// When to ask the Hub again, and what its refusals mean.
#pragma once

#include <string>

#include "core/error.h"
#include "formats/hub/http.h"
#include "formats/hub/observer.h"

namespace qtool {

// Tries of one request. A pause of 0.5 s doubles from try to try; a server's Retry-After is obeyed. Failures
// of the network, 408, 429 and 5xx are tried again, five times without progress at most.
class Retry {
 public:
  // `what` names what is asked for: "org/name: model.safetensors".
  Retry(const HubSettings& settings, const Cancellation& cancellation, HubObserver& observer,
        std::string what)
      : settings_(settings), cancellation_(cancellation), observer_(observer), what_(std::move(what)) {}

  void progressed() { tries_ = 0; }

  // Returns when it is time for the next try. Errors: what `result` means, when there shall be none.
  void wait(const HttpResult& result);

 private:
  const HubSettings& settings_;
  const Cancellation& cancellation_;
  HubObserver& observer_;
  std::string what_;
  int tries_ = 0;
};

// What a failed request means: kNotFound (404), kNetwork (refused, rate limit, network).
Error hub_error(const HttpResult& result, const std::string& what, const HubSettings& settings);

}  // namespace qtool
