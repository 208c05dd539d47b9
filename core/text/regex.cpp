#include "core/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <pcre2.h>

#include "core/error.h"
#include "core/limits.h"
#include "core/text/onig_pattern.h"
#include "core/text/utf8.h"

namespace qtool {

namespace {

template <auto release>
struct Releaser {
  template <typename T>
  void operator()(T* pointer) const {
    release(pointer);
  }
};
using CompileContext = std::unique_ptr<pcre2_compile_context, Releaser<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Releaser<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Releaser<pcre2_match_data_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Releaser<pcre2_jit_stack_free>>;

constexpr std::size_t kMatchesPerClock = 64;

constexpr std::size_t kJitStackAtLeast = 32 << 10;
constexpr std::size_t kJitStackAtMost = 16 << 20;

// What a thread needs to match with any pattern; made once per thread because tokenizers match millions of
// times.
struct Scratch {
  MatchContext context{pcre2_match_context_create(nullptr)};
  MatchData data{pcre2_match_data_create(1, nullptr)};
  JitStack stack{pcre2_jit_stack_create(kJitStackAtLeast, kJitStackAtMost, nullptr)};

  Scratch() {
    if (!context || !data || !stack) throw Error(ExitCode::kMemory, "no memory for regular expressions");
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

std::string shown(const std::string& pattern) {
  constexpr std::size_t kMost = 300;
  return escaped(pattern.substr(0, kMost)) + (pattern.size() > kMost ? "..." : "");
}

std::string message_of(int code) {
  unsigned char buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof buffer) < 0) return "error " + std::to_string(code);
  return reinterpret_cast<const char*>(buffer);
}

// Letters alone are safe to paste into a pattern.
bool is_script(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  if (name.size() < 3 || !std::all_of(name.begin(), name.end(), letter)) return false;
  std::string pattern("\\p{sc:");
  pattern.append(name).append("}");
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_code, Releaser<pcre2_code_free>> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                    &error, &offset, nullptr));
  return code != nullptr;
}

using Clock = std::chrono::steady_clock;

}  // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, Releaser<pcre2_code_free>> compiled;
  std::string pattern;
};

Regex Regex::from_oniguruma(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes)
    throw Error(ExitCode::kMalformed, "a pattern of " + std::to_string(pattern.size()) +
                                          " bytes, more than " + std::to_string(kMaxPatternBytes));
  return from_pcre(pcre_from_oniguruma(pattern, is_script));
}

Regex Regex::from_pcre(const std::string& pattern) {
  const CompileContext context{pcre2_compile_context_create(nullptr)};
  if (!context) throw Error(ExitCode::kMemory, "no memory for regular expressions");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_shared<Code>();
  code->pattern = pattern;
  code->compiled.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset,
                                     context.get()));
  if (!code->compiled)
    throw Error(ExitCode::kMalformed, "the pattern \"" + shown(pattern) + "\" is no regular expression: " +
                                          message_of(error) + " at character " + std::to_string(offset));
  // Without JIT (a hardened kernel, an odd processor) the interpreter gives the same matches, only slower.
  pcre2_jit_compile(code->compiled.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(code));
}

void Regex::find_all(std::string_view text, std::vector<Span>& out) const {
  thread_local const Scratch scratch;
  const std::size_t steps =
      std::min<std::size_t>(kMaxPatternSteps + kMaxPatternStepsPerByte * text.size(), UINT32_MAX);
  pcre2_set_match_limit(scratch.context.get(), static_cast<std::uint32_t>(steps));
  const double seconds_at_most =
      kMaxPatternSeconds + kMaxPatternSecondsPerByte * static_cast<double>(text.size());
  Clock::time_point start;

  const auto give_up = [this, &text](const std::string& why) {
    return Error(ExitCode::kMalformed, "the pattern \"" + shown(code_->pattern) +
                                           "\" takes too long on a text of " + std::to_string(text.size()) +
                                           " bytes (" + why + ")");
  };
  std::size_t position = 0;
  std::size_t last_end = std::string_view::npos;
  for (std::size_t count = 1; position <= text.size(); ++count) {
    const int result =
        pcre2_match(code_->compiled.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), position,
                    PCRE2_NO_UTF_CHECK, scratch.data.get(), scratch.context.get());
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0) throw give_up(message_of(result));
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(scratch.data.get());
    const Span match{offsets[0], offsets[1]};
    if (match.begin != match.end) {
      out.push_back(match);
      position = last_end = match.end;
    } else {
      if (match.end != last_end) out.push_back(match);
      if (match.end >= text.size()) return;
      position = match.end;
      next_code_point(text, position);
      last_end = match.end;
    }
    if (count == kMatchesPerClock) start = Clock::now();
    if (count > kMatchesPerClock && count % kMatchesPerClock == 0 &&
        std::chrono::duration<double>(Clock::now() - start).count() > seconds_at_most)
      throw give_up("more than " + std::to_string(static_cast<int>(seconds_at_most)) + " seconds");
  }
}

}  // namespace qtool
