// A chat template, rendered for a short conversation with a tool.
#include "core/text/jinja/chat_template.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using qtool::jinja::make_dict;
  using qtool::jinja::make_list;
  using qtool::jinja::Value;
  return qtool::test::survives([&] {
    const auto message = [](const char* role, const char* content) {
      return Value(make_dict({{Value("role"), Value(role)}, {Value("content"), Value(content)}}));
    };
    const qtool::ChatTemplate chat(qtool::test::text_of(data, size), "fuzz");
    qtool::ChatInput input;
    input.messages = Value(make_list({message("system", "Be brief."), message("user", "Hi"),
                                      message("assistant", "Hello"), message("user", "?")}));
    const Value function = Value(make_dict({{Value("name"), Value("time")}, {Value("strict"), Value(true)}}));
    input.names = {{"tools", Value(make_list({Value(make_dict({{Value("function"), function}}))}))},
                   {"bos_token", Value("<s>")}};
    chat.render(input);
  });
}
