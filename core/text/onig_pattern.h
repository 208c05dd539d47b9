// tokenizer.json writes its patterns for Oniguruma (in its own syntax); PCRE2 reads most of them the same
// way. This translates the rest.
#pragma once

#include <string>
#include <string_view>

namespace qtool {

// `pattern` for PCRE2 (compiled with UTF, UCP and MULTILINE) so that it matches what Oniguruma matches.
// Differences that are bridged:
//   \s \S           PCRE2 adds U+180E; the property White_Space is what Oniguruma means
//   \w \W \b \B     Oniguruma counts marks and connectors as word characters (UTS #18)
//   \p{Han}         the script alone; PCRE2 adds characters that are used with it (script extensions)
//   \h \H \v        hexadecimal digit and vertical tab, not classes of blanks
//   (?m:...)        "dot matches newline", which PCRE2 calls s
//   {,n}  {n,m}+    at most n;  greedy repetition of a repetition, not a possessive one
//   [a[bc]] [a&&b]  nested classes and intersections
//   [[:alpha:]]     the property Alphabetic, not \p{L}; the other POSIX classes likewise
//   \uHHHH
// Not bridged: in (?i) Oniguruma takes one character for two (U+00DF for "ss"), which PCRE2 never does.
//
// `is_script` tells whether a property name is a script for PCRE2. Errors: kUnsupported naming the construct
// that has no translation, kMalformed for unbalanced brackets.
std::string pcre_from_oniguruma(std::string_view pattern, bool (*is_script)(std::string_view name));

}  // namespace qtool
