// How deep the interpreter stands in its own calls.
#pragma once

#include "core/text/jinja/interpreter.h"

namespace qtool::jinja {

class DepthGuard {
 public:
  explicit DepthGuard(int& depth) : depth_(depth) {
    if (depth_ >= kMaxCallDepth) fail("macros call each other too deeply");
    ++depth_;
  }
  DepthGuard(const DepthGuard&) = delete;
  ~DepthGuard() { --depth_; }

 private:
  int& depth_;
};

}  // namespace qtool::jinja
