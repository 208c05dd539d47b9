#include "core/text/normalizer.h"

#include <algorithm>

#include "core/limits.h"
#include "core/text/byte_alphabet.h"
#include "core/text/utf8.h"

namespace qtool {

namespace {

// Chained Replace steps can multiply a text's size; no honest file comes near this.

bool nmt_drops(char32_t c) {
  return (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F ||
         c == 0x9F;
}

bool nmt_blanks(char32_t c) {
  return c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
}

std::string without_accents(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    if (!is_in(CharClass::kMark, next_code_point(text, i))) out += text.substr(begin, i - begin);
  }
  return out;
}

std::string nmt(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    const char32_t c = next_code_point(text, i);
    if (nmt_drops(c)) continue;
    if (nmt_blanks(c))
      out += ' ';
    else
      out += text.substr(begin, i - begin);
  }
  return out;
}

std::string bytes_as_chars(std::string_view text) {
  std::string out;
  append_bytes_as_chars(text, out);
  return out;
}

// Runs the steps and keeps track of what became of the first character, as the reference's alignments do.
struct Apply {
  NormalText now;
  std::size_t limit;  // of its bytes

  // A step that goes character by character makes of the first one what it makes of it alone, except that
  // characters behind may join it.
  template <typename Step>
  void each(const Step& step) {
    const std::string first = step(std::string_view(now.text).substr(0, now.first_bytes));
    now.text = step(std::string_view(now.text));
    now.first_bytes = std::min(first.size(), now.text.size());
    while (now.first_bytes < now.text.size() &&
           (static_cast<unsigned char>(now.text[now.first_bytes]) & 0xC0u) == 0x80u)
      ++now.first_bytes;
  }

  void operator()(const NormalizeForm& step) {
    each([&step](std::string_view text) { return normal_form(text, step.form); });
  }
  void operator()(const NormalizeLowercase&) { each(lowercase); }
  void operator()(const NormalizeStripAccents&) { each(without_accents); }
  void operator()(const NormalizeNmt&) { each(nmt); }
  void operator()(const NormalizeByteLevel&) { each(bytes_as_chars); }
  void operator()(const NormalizePrecompiled& step) {
    const bool had_first = now.first_bytes > 0;
    each([&](std::string_view text) { return step.map->normalize(text, limit); });
    // Where it drops the first character, the reference takes the next one for it.
    if (had_first && now.first_bytes == 0 && !now.text.empty()) next_code_point(now.text, now.first_bytes);
  }
  void operator()(const NormalizeStrip& step) {
    std::size_t begin = now.text.size();  // of the first character that stays
    std::size_t end = 0;                  // behind the last one
    for (std::size_t i = 0; i < now.text.size();) {
      const std::size_t start = i;
      if (is_in(CharClass::kWhitespace, next_code_point(now.text, i))) continue;
      if (end == 0) begin = start;
      end = i;
    }
    if (end == 0 && !step.left && !step.right) return;
    if (!step.left && end != 0) begin = 0;
    if (!step.right && end != 0) end = now.text.size();
    now.text = begin < end ? now.text.substr(begin, end - begin) : std::string();
    now.first_bytes = std::min(now.first_bytes - std::min(begin, now.first_bytes), now.text.size());
  }
  void operator()(const NormalizePrepend& step) {
    if (now.text.empty()) return;
    now.text.insert(0, step.text);
    if (now.first_bytes > 0) now.first_bytes += step.text.size();
  }
  void operator()(const NormalizeReplace& step) {
    now.text = replace_all(step.pattern, now.text, step.content, limit, &now.first_bytes);
  }
};

}  // namespace

NormalText normalize(const std::vector<NormalizerStep>& steps, std::string_view text) {
  Apply apply{{std::string(text), 0}, std::max(kMaxNormalizedBytes, kMaxNormalizedPerByte * text.size())};
  if (!text.empty()) next_code_point(text, apply.now.first_bytes);
  for (const NormalizerStep& step : steps) std::visit(apply, step);
  return std::move(apply.now);
}

}  // namespace qtool
