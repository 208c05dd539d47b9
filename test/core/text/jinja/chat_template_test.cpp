// What apply_chat_template does around the template.
#include "core/text/jinja/chat_template.h"

#include <catch2/catch.hpp>

#include "core/error.h"

using namespace qtool;
using jinja::Value;

namespace {

Value message(std::vector<std::pair<Value, Value>> entries) { return jinja::make_dict(std::move(entries)); }

ChatInput input_of(std::vector<Value> messages) {
  ChatInput input;
  input.messages = jinja::make_list(std::move(messages));
  return input;
}

const std::string kChatMl =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' "
    "+ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

}  // namespace

TEST_CASE("messages become the prompt") {
  ChatInput input = input_of({message({{"role", "system"}, {"content", "Be brief."}}),
                              message({{"role", "user"}, {"content", "Hi"}})});
  const ChatTemplate chat(kChatMl, "chat_template.jinja");
  const std::string turns = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n";
  CHECK(chat.render(input) == turns + "<|im_start|>assistant\n");
  input.add_generation_prompt = false;
  CHECK(chat.render(input) == turns);
}

TEST_CASE("what was not given is none or undefined, what was given replaces it") {
  ChatInput input = input_of({message({{"role", "user"}, {"content", "Hi"}})});
  const ChatTemplate chat("{{ tools }} {{ documents }} {{ bos_token is defined }} {{ bos_token }}", "t");
  CHECK(chat.render(input) == "None None False ");
  input.names = {{"bos_token", "<s>"}, {"tools", jinja::make_list({Value(1)})}, {"bos_token", "<S>"}};
  CHECK(chat.render(input) == "[1] None True <S>");
}

TEST_CASE("null fields are absent, reasoning has both of its names") {
  const ChatTemplate chat("{{ messages[0] }}", "t");
  CHECK(chat.render(input_of({message({{"role", "user"}, {"name", Value()}, {"content", "Hi"}})})) ==
        "{'role': 'user', 'content': 'Hi'}");
  CHECK(chat.render(input_of({message({{"role", "assistant"}, {"reasoning", "hm"}})})) ==
        "{'thinking': 'hm', 'role': 'assistant', 'reasoning': 'hm', 'reasoning_content': 'hm'}");
  CHECK(chat.render(input_of({message({{"thinking", "a"}, {"role", "x"}, {"reasoning_content", "b"}})})) ==
        "{'thinking': 'a', 'role': 'x', 'reasoning_content': 'b'}");
}

TEST_CASE("errors name the template; a refusal is a matter of usage") {
  const auto code_of = [](const std::string& source, const ChatInput& input) {
    try {
      ChatTemplate(source, "my.jinja").render(input);
    } catch (const Error& error) {
      CHECK_THAT(error.what(), Catch::Contains("my.jinja: ") || Catch::Contains("message"));
      return error.code();
    }
    return ExitCode::kOk;
  };
  const ChatInput hello = input_of({message({{"role", "user"}, {"content", "Hi"}})});
  CHECK(code_of("{{ raise_exception('no system role') }}", hello) == ExitCode::kUsage);
  CHECK(code_of("{{ 1 + }}", hello) == ExitCode::kMalformed);
  CHECK(code_of("{% block x %}{% endblock %}", hello) == ExitCode::kUnsupported);
  CHECK(code_of("x", input_of({})) == ExitCode::kUsage);
  CHECK(code_of("x", input_of({Value("Hi")})) == ExitCode::kUsage);
}
