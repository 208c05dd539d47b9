// Content-Range: bytes 100-199/1000
#pragma once

#include <cstdint>
#include <optional>

#include "formats/hub/http.h"

namespace qtool {

struct ContentRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;  // behind the last byte
  std::int64_t total = 0;
};

// Nothing where the header is absent or says something else.
std::optional<ContentRange> content_range_of(const HttpHead& head);

}  // namespace qtool
