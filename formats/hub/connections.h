// What the parts of one command that speak with the Hub share: settings, observer, and connections that any
// thread may borrow.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "formats/hub/http.h"
#include "formats/hub/listing.h"
#include "formats/hub/observer.h"

namespace qtool {

class HubConnections {
 public:
  HubConnections(HubSettings settings, std::shared_ptr<HubObserver> observer)
      : settings_(std::move(settings)), observer_(std::move(observer)) {}

  HubContext context() const { return {settings_, cancellation_, *observer_}; }

  // Runs `work` with a connection of its own, one used before if there is one.
  void with_session(const std::function<void(HttpSession&)>& work);

  // Runs work(0) ... work(count - 1) on a few threads, each with a connection. The first error ends all and
  // is thrown.
  void for_each(std::size_t count, const std::function<void(std::size_t, HttpSession&)>& work);

 private:
  const HubSettings settings_;
  const std::shared_ptr<HubObserver> observer_;
  Cancellation cancellation_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<HttpSession>> idle_;
};

}  // namespace qtool
