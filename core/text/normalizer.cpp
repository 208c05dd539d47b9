#include "core/text/normalizer.h"

#include "core/text/utf8.h"

namespace qtool {

namespace {

// Chained Replace steps can multiply a text's size; no honest file comes near this.
constexpr std::size_t kMaxBytes = std::size_t{1} << 28;

struct Apply {
  std::string text;

  std::string operator()(const NormalizeForm& step) { return normal_form(text, step.form); }
  std::string operator()(const NormalizeLowercase&) { return lowercase(text); }
  std::string operator()(const NormalizeStripAccents&) {
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t begin = i;
      if (!is_in(CharClass::kMark, next_code_point(text, i))) out.append(text, begin, i - begin);
    }
    return out;
  }
  std::string operator()(const NormalizeStrip& step) {
    std::size_t begin = text.size();  // of the first character that stays
    std::size_t end = 0;              // behind the last one
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t start = i;
      if (is_in(CharClass::kWhitespace, next_code_point(text, i))) continue;
      if (end == 0) begin = start;
      end = i;
    }
    if (end == 0) return step.left || step.right ? std::string() : text;
    if (!step.left) begin = 0;
    if (!step.right) end = text.size();
    return text.substr(begin, end - begin);
  }
  std::string operator()(const NormalizePrepend& step) { return text.empty() ? text : step.text + text; }
  std::string operator()(const NormalizeReplace& step) {
    return replace_all(step.pattern, text, step.content, kMaxBytes);
  }
};

}  // namespace

std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text) {
  Apply apply{std::string(text)};
  for (const NormalizerStep& step : steps) apply.text = std::visit(apply, step);
  return std::move(apply.text);
}

}  // namespace qtool
