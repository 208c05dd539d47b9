// A long job on stderr.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unistd.h>

#include "cmd/cli.h"
#include "core/interrupt.h"

namespace qtool {
namespace {

constexpr int kBarWidth = 28;
constexpr std::chrono::milliseconds kTerminalPause{100};
constexpr std::chrono::seconds kLogPause{10};

std::string clock_time(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::min(std::ceil(seconds), 359999.0));
  char text[32];
  if (whole >= 3600)
    std::snprintf(text, sizeof text, "%d:%02d:%02d", static_cast<int>(whole / 3600),
                  static_cast<int>(whole / 60 % 60), static_cast<int>(whole % 60));
  else
    std::snprintf(text, sizeof text, "%d:%02d", static_cast<int>(whole / 60), static_cast<int>(whole % 60));
  return text;
}

}  // namespace

Progress::Progress(const CommonOptions& common, const std::string& label, std::int64_t total_bytes)
    : label_(escaped(label)),
      total_(std::max<std::int64_t>(total_bytes, 1)),
      silent_(common.quiet),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()),
      last_shown_(start_) {}

Progress::~Progress() {
  if (!silent_ && terminal_) std::fprintf(stderr, "\r\033[K");  // leaves no half bar behind
}

void Progress::advance(std::int64_t bytes) {
  stop_if_interrupted();
  if (silent_) return;
  const std::scoped_lock lock(mutex_);
  done_ = std::min(done_ + bytes, total_);
  const auto now = std::chrono::steady_clock::now();
  const double fraction = static_cast<double>(done_) / static_cast<double>(total_);
  const auto pause = now - last_shown_;
  // Not on a terminal: short jobs say nothing, long ones a line every 5 %, slow ones every 10 s.
  const bool due =
      terminal_ ? pause >= kTerminalPause
                : pause >= kLogPause || (fraction >= last_fraction_ + 0.05 && now - start_ >= kLogPause);
  if (due) show(done_ == total_);
}

void Progress::show(bool last) {
  const auto now = std::chrono::steady_clock::now();
  const double fraction = static_cast<double>(done_) / static_cast<double>(total_);
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double rate = elapsed > 0 ? static_cast<double>(done_) / elapsed : 0;
  const double left = rate > 0 ? static_cast<double>(total_ - done_) / rate : 0;
  const std::string speed = human_bytes(static_cast<std::int64_t>(rate)) + "/s";
  const int percent = static_cast<int>(fraction * 100);
  if (terminal_) {
    const auto filled = static_cast<std::size_t>(fraction * kBarWidth);
    const std::string bar = std::string(filled, '#') + std::string(kBarWidth - filled, '.');
    std::fprintf(stderr, "\r%s [%s] %3d %%  %s  %s left\033[K", label_.c_str(), bar.c_str(), percent,
                 speed.c_str(), clock_time(left).c_str());
  } else if (last) {
    std::fprintf(stderr, "%s: 100 %%, %s, took %s\n", label_.c_str(), speed.c_str(),
                 clock_time(elapsed).c_str());
  } else {
    std::fprintf(stderr, "%s: %d %%, %s, %s left\n", label_.c_str(), percent, speed.c_str(),
                 clock_time(left).c_str());
  }
  std::fflush(stderr);
  last_shown_ = now;
  last_fraction_ = fraction;
}

}  // namespace qtool
