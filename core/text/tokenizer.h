// Text <-> token ids, whatever the vocabulary's kind.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qtool {

using TokenId = std::int32_t;

// Decodes one token after the other. Only whole UTF-8 sequences leave it; what a token begins and the next
// one ends waits inside.
class StreamDecoder {
 public:
  virtual ~StreamDecoder() = default;

  // Text that became certain with this token; may be empty.
  virtual std::string push(TokenId id) = 0;

  // What is left at the end; bytes that never became a character come out as U+FFFD.
  virtual std::string finish() = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids of UTF-8 `text`. Special tokens written in the text are recognised. `add_special_tokens` adds what
  // the tokenizer's post-processor adds (mostly BOS), exactly as Hugging Face's tokenizers do.
  virtual std::vector<TokenId> encode(std::string_view text, bool add_special_tokens) const = 0;

  // Text of ids, as Hugging Face's decode gives it. Errors: kUsage for an id outside the vocabulary.
  virtual std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const = 0;

  // `prompt` sets the state (does the next token begin the text or continue it?) and produces no output.
  virtual std::unique_ptr<StreamDecoder> stream(std::span<const TokenId> prompt,
                                                bool skip_special_tokens) const = 0;

  virtual std::int64_t vocab_size() const = 0;                          // highest id + 1
  virtual std::optional<std::string> token_text(TokenId id) const = 0;  // the vocabulary's own spelling
  virtual std::optional<TokenId> id_of(std::string_view token) const = 0;
  virtual bool is_special(TokenId id) const = 0;
  virtual std::optional<TokenId> bos_id() const = 0;  // of tokenizer_config.json, whether or not it is added
  virtual std::optional<TokenId> eos_id() const = 0;
  virtual std::string_view kind() const = 0;  // "BPE (byte-level)", "sentencepiece BPE", ...
};

}  // namespace qtool
