// A chat template, rendered for a short conversation.
#include "core/text/jinja/chat_template.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return qtool::test::survives([&] {
    using qtool::jinja::Value;
    const auto message = [](const char* role, const char* content) {
      return Value(
          qtool::jinja::make_dict({{Value("role"), Value(role)}, {Value("content"), Value(content)}}));
    };
    const qtool::ChatTemplate chat(qtool::test::text_of(data, size), "fuzz");
    qtool::ChatInput input;
    input.messages = Value(qtool::jinja::make_list({message("system", "Be brief."), message("user", "Hi"),
                                                    message("assistant", "Hello"), message("user", "?")}));
    chat.render(input);
  });
}
