#include "cmd/payload.h"

#include <span>

#include "cmd/cli.h"

namespace qtool {

Payload::Payload(const std::string& path) {
  if (!path.empty()) file_.emplace(path);
}

void Payload::write(std::string_view text) {
  if (text.empty()) return;
  last_ = text.back();
  if (!file_) return print_out(text);
  file_->write_at(written_, std::as_bytes(std::span(text)));
  written_ += static_cast<std::int64_t>(text.size());
}

void Payload::end_line() {
  if (last_ != '\n') write("\n");
}

}  // namespace qtool
