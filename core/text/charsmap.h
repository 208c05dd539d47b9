// sentencepiece's compiled normalization: a table from short texts to the texts that replace them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qtool {

// The table "precompiled_charsmap" of sentencepiece models and of the normalizer Precompiled of
// tokenizer.json:
//
//   u32          size of the trie in bytes                                  (all numbers little-endian)
//   u32[size/4]  a double-array trie (Darts) over UTF-8, its values offsets into ...
//   char[]       ... the replacements, UTF-8, each ending in a zero byte
class Charsmap {
 public:
  // Errors: kMalformed when the sizes contradict each other or the replacements are not UTF-8.
  explicit Charsmap(std::string_view table);

  // Valid UTF-8 with everything replaced as Hugging Face's tokenizers replace it: a grapheme of up to five
  // bytes as a whole, by what the table has for the shortest beginning of it; else each character. Errors:
  // kMalformed for an offset outside the replacements and a result of more than `max_bytes`.
  std::string normalize(std::string_view text, std::size_t max_bytes) const;

 private:
  void append(std::string_view grapheme, std::string& out) const;
  std::optional<std::string_view> replacement(std::string_view chunk) const;

  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace qtool
