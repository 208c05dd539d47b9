// Tokenizer classes whose files say only how bytes are merged: the class knows the rest.
#pragma once

#include <string>
#include <string_view>

#include "core/text/pipeline.h"
#include "core/text/pre_tokenizer.h"

namespace qtool {

// How Llama 3 and Qwen cut text into pieces, written for Oniguruma. They differ in how many digits stay
// together.
inline constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr const char* kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The stages around a byte-level model: NFC if asked for, pieces by `pattern`, bytes spelled as characters,
// and back.
inline void set_byte_level_stages(TokenizerParts& parts, const Regex& pattern, bool is_nfc) {
  if (is_nfc) parts.normalizer = {NormalizeForm{NormalForm::kNfc}};
  parts.pre_tokenizer = {SplitByPattern{pattern, SplitBehavior::kIsolated, false}, BytesToChars{}};
  parts.decoder = {DecodeByteLevel{}};
}

// Whether `word` is among `words`, each of which stands between spaces.
inline bool lists(std::string_view words, const std::string& word) {
  return !word.empty() && words.find(' ' + word + ' ') != std::string_view::npos;
}

}  // namespace qtool
