// Where a command's payload goes: stdout, or the file of --output.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "formats/file.h"

namespace qtool {

class Payload {
 public:
  explicit Payload(const std::string& path);  // empty: stdout; errors: kIo
  void write(std::string_view text);
  void end_line();  // unless the last line has ended

 private:
  std::optional<OutputFile> file_;
  std::int64_t written_ = 0;
  char last_ = 0;
};

}  // namespace qtool
