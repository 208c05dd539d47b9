// tokenizer.model in sentencepiece's form, and texts through what it describes.
#include "formats/sentencepiece_model.h"
#include "test/fuzz/tokenize.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return qtool::test::survives([&] {
    qtool::TokenizerConfig config;
    config.tokenizer_class = "PreTrainedTokenizerFast";  // the one that normalizes by the model's own table
    qtool::test::tokenize(qtool::parts_from_sentencepiece(qtool::test::text_of(data, size), config, "fuzz"));
  });
}
