// The second stage of a tokenizer: text -> pieces, each of which the model cuts into tokens on its own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/text/pattern.h"
#include "core/text/unicode.h"

namespace qtool {

// What becomes of the matches of a Split, by the example of "-" on "a--b" (as pieces):
enum class SplitBehavior : std::uint8_t {
  kRemoved,             // a | b
  kIsolated,            // a | - | - | b
  kMergedWithPrevious,  // a- | - | b
  kMergedWithNext,      // a | - | -b
  kContiguous,          // a | -- | b
};

enum class PrependScheme : std::uint8_t { kAlways, kFirst, kNever };

// `invert` makes the text between the matches the matches.
struct SplitByPattern {
  Pattern pattern;
  SplitBehavior behavior;
  bool invert;
};
struct SplitByClass {  // every character of the class is a match
  CharClass which;
  SplitBehavior behavior;
};
struct PrependSpace {};  // to pieces that do not begin with one
struct BytesToChars {};  // every byte becomes its character of the byte-level alphabet
struct Metaspace {       // spaces become `replacement`, and pieces may be given one in front
  std::string replacement;
  PrependScheme prepend;  // kFirst: only pieces that begin within the input's first character
  bool split;             // in front of every replacement
};
using PreTokenizerStep = std::variant<SplitByPattern, SplitByClass, PrependSpace, BytesToChars, Metaspace>;

// GPT-2's pattern, which the step "ByteLevel" of tokenizer.json implies.
Regex gpt2_pattern();

// Text cut into pieces that follow one another; text between pieces was removed.
struct Pieces {
  std::string text;
  std::vector<Span> spans;      // none is empty
  std::size_t first_bytes = 0;  // so many at the front of `text` stand for the first character of the input
};

// One piece holding all of `text`, or none where it is empty.
Pieces whole(std::string text, std::size_t first_bytes);

// All steps, one after the other. `pieces.text` is valid UTF-8.
void pre_tokenize(const std::vector<PreTokenizerStep>& steps, Pieces& pieces);

}  // namespace qtool
