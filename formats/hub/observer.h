// Who is told how a download goes.
#pragma once

#include <cstdint>
#include <string>

namespace qtool {

// Called from several threads.
class HubObserver {
 public:
  virtual ~HubObserver() = default;
  virtual void note(const std::string& sentence) = 0;                   // a delay and its reason
  virtual void begin(const std::string& what, std::int64_t bytes) = 0;  // so much is to be fetched
  virtual void advance(std::int64_t bytes) = 0;
  virtual void end() = 0;
};

}  // namespace qtool
