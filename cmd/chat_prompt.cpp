#include "cmd/chat_prompt.h"

#include "core/limits.h"
#include "core/text/jinja/chat_template.h"
#include "core/text/utf8.h"
#include "formats/chat_template_files.h"
#include "formats/file.h"

namespace qtool {
namespace {

using jinja::Value;

Value message(const std::string& role, const std::string& content, const char* option) {
  if (!is_valid_utf8(content))
    throw Error(ExitCode::kUsage, std::string("the text of ") + option + " is not valid UTF-8");
  return jinja::make_dict({{"role", role}, {"content", content}});
}

// Puts the message of --system in front.
void add_system(const ChatOptions& options, Conversation& conversation) {
  if (!options.system_given) return;
  std::vector<Value> messages = {message("system", options.system, "--system")};
  for (const Value& one : conversation.messages.list()->items) {
    const Value* role = one.dict() ? one.dict()->find(std::string_view("role")) : nullptr;
    if (messages.size() == 1 && role && role->text() && *role->text() == "system")
      throw Error(ExitCode::kUsage,
                  "--system: the messages" +
                      (options.messages.empty() ? "" : " of '" + escaped(options.messages) + "'") +
                      " already begin with a system message");
    messages.push_back(one);
  }
  conversation.messages = jinja::make_list(std::move(messages));
}

NamedTemplate template_of(const std::string& folder, const std::string& wanted, bool has_tools) {
  if (!wanted.empty() && exists(wanted))
    return {"", read_input(wanted, std::int64_t{kMaxTemplateBytes}), wanted};
  const std::vector<NamedTemplate> templates = read_chat_templates(folder);
  for (const NamedTemplate& one : templates)
    if (!wanted.empty() && one.name == wanted) return one;
  if (!wanted.empty())
    throw Error(ExitCode::kNotFound,
                "--chat-template: there is no file '" + escaped(wanted) +
                    "', and the model has no template of that name",
                wanted);
  if (const NamedTemplate* chosen = choose_chat_template(templates, has_tools)) return *chosen;
  throw Error(ExitCode::kUsage,
              "this model has no chat template; give one with --chat-template FILE, or leave --chat away",
              folder);
}

}  // namespace

ChatFlags add_chat_options(CLI::App& app, ChatOptions& options) {
  app.option_defaults()->group("Chat (without one of these the prompt is taken as it is)");
  flag(app, "--chat", options.chat, "the prompt is what a user says: put it into the model's chat template");
  flag(app, "--raw", options.raw, "the prompt is text to continue; the default");
  CLI::Option* messages =
      option(app, "--messages", options.messages,
             "JSON file with a list of messages, or an object with messages, tools, documents")
          ->type_name("FILE");
  option(app, "--system", options.system, "a system message in front")->each([&options](const std::string&) {
    options.system_given = true;
  });
  option(app, "--chat-template", options.template_file,
         "Jinja file to use instead of the model's template, or the name of one of several")
      ->type_name("FILE");
  option(app, "--chat-template-kwargs", options.template_kwargs,
         "JSON object for the template, such as {\"enable_thinking\": false}")
      ->type_name("JSON");
  return {messages};
}

bool is_chat(const ChatOptions& options) {
  const bool chat = options.chat || !options.messages.empty() || options.system_given ||
                    !options.template_file.empty() || !options.template_kwargs.empty();
  if (chat && options.raw)
    throw Error(
        ExitCode::kUsage,
        "--raw does not go with --chat, --messages, --system, --chat-template and --chat-template-kwargs");
  return chat;
}

std::string render_chat(const std::string& folder, const ChatOptions& options,
                        const std::optional<std::string>& prompt) {
  if (!options.messages.empty()) return render_chat(folder, options, read_conversation(options.messages));
  Conversation conversation;
  conversation.messages = jinja::make_list({message("user", prompt.value_or(""), "--prompt")});
  return render_chat(folder, options, std::move(conversation));
}

std::string render_chat(const std::string& folder, const ChatOptions& options, Conversation conversation) {
  add_system(options, conversation);
  ChatInput input;
  input.messages = std::move(conversation.messages);
  input.names = read_special_tokens(folder);
  const auto add = [&input](NamedValues values) {
    input.names.insert(input.names.end(), values.begin(), values.end());
  };
  add(std::move(conversation.names));
  if (!options.template_kwargs.empty()) add(named_values(options.template_kwargs, "--chat-template-kwargs"));
  bool has_tools = false;
  for (const auto& [name, value] : input.names)
    if (name == "tools") has_tools = !value.is_none();
  input.now = local_time_now();
  const NamedTemplate chosen = template_of(folder, options.template_file, has_tools);
  return ChatTemplate(chosen.source, chosen.file).render(input);
}

}  // namespace qtool
