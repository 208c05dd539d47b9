// tokenizer.model in sentencepiece's form, and a text through what it describes.
#include "formats/sentencepiece_model.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return qtool::test::survives([&] {
    qtool::TokenizerConfig config;
    config.tokenizer_class = "PreTrainedTokenizerFast";  // the one that normalizes by the model's own table
    qtool::make_tokenizer(qtool::parts_from_sentencepiece(qtool::test::text_of(data, size), config, "fuzz"))
        ->encode("caf\u00E9 \uFB01 \uFF21\t\u2026 <|user|>aab", true);
  });
}
