// The first stage of a tokenizer: text -> text.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/text/pattern.h"
#include "core/text/unicode.h"

namespace qtool {

// The steps of tokenizer.json under their own names; "Sequence" is the vector.
struct NormalizeForm {
  NormalForm form;
};
struct NormalizeLowercase {};
struct NormalizeStripAccents {};  // drops every mark
struct NormalizeStrip {           // white space at the ends
  bool left;
  bool right;
};
struct NormalizePrepend {  // to text that is not empty
  std::string text;
};
struct NormalizeReplace {
  Pattern pattern;
  std::string content;
};
using NormalizerStep = std::variant<NormalizeForm, NormalizeLowercase, NormalizeStripAccents, NormalizeStrip,
                                    NormalizePrepend, NormalizeReplace>;

// All steps, one after the other, on valid UTF-8. Errors: kMalformed when hostile steps make the text
// explode.
std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text);

}  // namespace qtool
