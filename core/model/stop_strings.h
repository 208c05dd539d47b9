// Stop strings in text that arrives piece by piece: what might still become one is held back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qtool {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}  // none of them empty

  // Takes the next piece of text and returns what can be shown: everything before the longest suffix that
  // begins a stop string, or, once one is complete, everything before it. Where several are complete, the
  // earliest counts.
  std::string push(std::string_view piece);

  // Whether a stop string is complete; whatever comes after it is ignored.
  bool found() const { return found_; }

  // What was held back, once no more text comes.
  std::string finish();

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace qtool
