// tokenizer.model or *.tiktoken with ranks.
#include "formats/tiktoken.h"
#include "test/fuzz/tokenize.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = qtool::test::text_of(data, size);
  return qtool::test::survives([&] {
    qtool::is_tiktoken(text);
    for (const char* model_type : {"llama", "qwen"}) {
      qtool::TokenizerConfig config;
      config.model_type = model_type;
      qtool::test::tokenize(qtool::parts_from_tiktoken(text, config, "fuzz"));
    }
  });
}
