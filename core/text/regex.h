// Regular expressions over UTF-8 as tokenizer files mean them: written for Oniguruma, run by PCRE2's JIT.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qtool {

struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// An immutable compiled pattern; copies share it, and any number of threads may match with it.
class Regex {
 public:
  // Errors: kMalformed when the pattern does not compile, kUnsupported (see onig_pattern.h).
  static Regex from_oniguruma(std::string_view pattern);
  static Regex from_pcre(const std::string& pattern);

  // All matches in valid UTF-8 `text`, from left to right without overlap, appended to `out`. Empty matches
  // count, except right behind another match. Errors: kMalformed when a match needs more work or memory than
  // any sane pattern does.
  void find_all(std::string_view text, std::vector<Span>& out) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace qtool
