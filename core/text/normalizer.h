// The first stage of a tokenizer: text -> text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/text/charsmap.h"
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
struct NormalizeNmt {};  // drops control characters, makes spaces of other blanks (sentencepiece's "nmt")
struct NormalizeByteLevel {};  // every byte becomes its character of the byte-level alphabet
struct NormalizePrecompiled {
  std::shared_ptr<const Charsmap> map;
};
using NormalizerStep =
    std::variant<NormalizeForm, NormalizeLowercase, NormalizeStripAccents, NormalizeStrip, NormalizePrepend,
                 NormalizeReplace, NormalizeNmt, NormalizeByteLevel, NormalizePrecompiled>;

struct NormalText {
  std::string text;
  std::size_t first_bytes;  // so many at its front came from the first character of what was normalized
};

// All steps, one after the other, on valid UTF-8. Errors: kMalformed when hostile steps make the text
// explode.
NormalText normalize(const std::vector<NormalizerStep>& steps, std::string_view text);

}  // namespace qtool
