// Options that put a prompt into the form a chat model was trained on.
#pragma once

#include <optional>
#include <string>

#include "cmd/cli.h"
#include "formats/chat_template_files.h"

namespace qtool {

struct ChatOptions {
  bool chat = false, raw = false;
  std::string messages;         // file of a conversation
  std::string system;           // text of a system message in front
  std::string template_file;    // a file, or the name of one of the model's templates
  std::string template_kwargs;  // JSON object
  bool system_given = false;
};

// What add_chat_options declares: `messages` excludes other ways to give a prompt.
struct ChatFlags {
  CLI::Option* messages;
};
ChatFlags add_chat_options(CLI::App& app, ChatOptions& options);

// Is the prompt a chat? Asked for by any of the options. Errors: kUsage, when --raw is given as well.
bool is_chat(const ChatOptions& options);

// The conversation as the model's template renders it; `prompt` is what the user says where --messages is not
// given. It has all special tokens the model wants: tokenize it without adding any. Errors: kUsage (no
// template, or it refuses the messages), kNotFound, kMalformed, kUnsupported.
std::string render_chat(const std::string& folder, const ChatOptions& options,
                        const std::optional<std::string>& prompt);
// The same for a conversation that is read already, in place of the --messages file.
std::string render_chat(const std::string& folder, const ChatOptions& options, Conversation conversation);

}  // namespace qtool
