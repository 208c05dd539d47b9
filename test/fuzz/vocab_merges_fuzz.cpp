// vocab.json and, behind the first zero byte, merges.txt.
#include <nlohmann/json.hpp>

#include "formats/vocab_merges.h"
#include "test/fuzz/tokenize.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = qtool::test::text_of(data, size);
  const std::size_t vocab_end = std::min(text.find('\0'), text.size());
  const std::string_view merges = text.substr(std::min(vocab_end + 1, text.size()));
  return qtool::test::survives([&] {
    const qtool::Json vocab = qtool::parse_json(text.substr(0, vocab_end), "vocab.json");
    for (const char* tokenizer_class : {"GPT2Tokenizer", "Qwen2Tokenizer"}) {
      qtool::TokenizerConfig config;
      config.tokenizer_class = tokenizer_class;
      qtool::test::tokenize(qtool::parts_from_vocab_merges(vocab, merges, config));
    }
  });
}
