// A model's chat template: messages -> the prompt the model was trained on, exactly as Hugging Face's
// apply_chat_template renders it.
#pragma once

#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/text/jinja/ast.h"
#include "core/text/jinja/value.h"

namespace qtool {

// What a template is given.
struct ChatInput {
  jinja::Value messages;  // a list of dicts: role, content, ...
  // Everything else by name: tools, documents, bos_token and the other special tokens, enable_thinking, ...
  // Of a name that comes twice the last counts.
  std::vector<std::pair<std::string, jinja::Value>> names;
  bool add_generation_prompt = true;  // end with what begins the assistant's answer
  std::tm now = {};                   // local time, for templates that tell the date
};

class ChatTemplate {
 public:
  // `name` is what errors call the template. Errors: kMalformed, kUnsupported, naming the line and the
  // construct.
  ChatTemplate(std::string_view source, std::string name);

  // Errors: kUsage (no messages, or the template refuses them), kMalformed, kUnsupported.
  std::string render(const ChatInput& input) const;

 private:
  std::string name_;
  jinja::Body body_;
};

// The local time.
std::tm local_time_now();

}  // namespace qtool
