// qtool manual: qtool.1, made from the declarations of the options. roff with the man macros of groff and
// mandoc.
#include <nlohmann/json.hpp>

#include "cmd/cli_outline.h"
#include "cmd/commands.h"

namespace qtool {
namespace {

// Text as roff takes it: backslashes and hyphens meant as such, no control character at the start of a line.
std::string roff(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
  }
  if (out.starts_with('.') || out.starts_with('\'')) out.insert(0, "\\&");
  return out;
}

std::string bold(std::string_view text) { return "\\fB" + roff(text) + "\\fR"; }
std::string italic(std::string_view text) { return "\\fI" + roff(text) + "\\fR"; }

std::string of_option(const OptionOutline& option) {
  std::string text = ".TP\n";
  for (std::size_t i = 0; i < option.names.size(); ++i) text += (i > 0 ? ", " : "") + bold(option.names[i]);
  if (!option.value.empty()) text += " " + italic(option.value);
  if (!option.initial.empty()) text += " [" + roff(option.initial) + "]";
  return text + "\n" + roff(option.help) + "\n";
}

// Options of one command, a heading before each group; those that all commands have are described once.
std::string of_options(const CommandOutline& command) {
  std::string text;
  std::string group;
  for (const OptionOutline& option : command.options) {
    if (option.group == kCommonGroup) continue;
    if (option.group != group && option.group != "Options") text += ".PP\n" + italic(option.group) + "\n";
    group = option.group;
    text += of_option(option);
  }
  return text;
}

// Paragraphs, and indented lines as they are.
std::string of_footer(const std::string& footer) {
  std::string text;
  bool kept = false;
  for (std::size_t at = 0, end = 0; (end = footer.find('\n', at)) != std::string::npos; at = end + 1) {
    const std::string line = footer.substr(at, end - at);
    const bool keep = line.starts_with(' ');
    if (keep != kept) text += keep ? ".PP\n.nf\n" : ".fi\n";
    kept = keep;
    if (line.empty()) continue;
    text += keep ? roff(line) + "\n" : ".PP\n" + roff(line) + "\n";
  }
  return text + (kept ? ".fi\n" : "");
}

std::string of_command(const CommandOutline& command) {
  std::string text = ".SS qtool " + command.name;
  for (const OptionOutline& positional : command.positionals) text += " [" + positional.names.front() + "]";
  text += " [options]\n" + roff(command.summary) + ".\n";
  for (const OptionOutline& positional : command.positionals)
    if (positional.twin != "QTOOL_MODEL")
      text += ".TP\n" + italic(positional.names.front()) + "\n" + roff(positional.help) + "\n";
  return text + of_options(command) + of_footer(command.footer);
}

constexpr struct {
  std::string_view names;
  std::string_view meaning;
} kVariables[] = {
    {"QTOOL_MODEL", "the model where none is named"},
    {"QTOOL_<OPTION>", "the twin of every option: QTOOL_MAX_RAM of --max-ram, QTOOL_JSON of --json"},
    {"QTOOL_CPU", "portable, avx2 or avx512: kernels for less than the processor has"},
    {"HF_HOME, HF_HUB_CACHE", "where models of the Hugging Face Hub are kept"},
    {"HF_TOKEN, HF_TOKEN_PATH", "who asks the Hub"},
    {"HF_ENDPOINT", "another Hub"},
    {"HF_HUB_OFFLINE", "1: never ask the Hub"},
    {"NO_COLOR", "no colours on stderr"},
    {"CUDA_VISIBLE_DEVICES", "the GPUs that may be used"},
    {"OMP_NUM_THREADS", "threads, where --threads says nothing"},
    {"https_proxy, no_proxy, SSL_CERT_FILE", "how the network is reached"},
};

std::string manual() {
  const std::vector<CommandOutline> commands = outline_of(subcommands());
  std::string text = ".TH QTOOL 1 \"\" \"" + version_line().substr(0, version_line().size() - 1) +
                     "\" \"User Commands\"\n.nh\n.ad l\n"
                     ".SH NAME\n"
                     "qtool \\- quantize Hugging Face checkpoints as bitsandbytes does, and run them\n"
                     ".SH SYNOPSIS\n";
  for (const CommandOutline& command : commands)
    text +=
        bold("qtool " + command.name) +
        (command.positionals.empty() ? "" : " [" + italic(command.positionals.front().names.front()) + "]") +
        " [options]\n.br\n";
  text +=
      ".SH DESCRIPTION\n"
      ".I model\n"
      "is a folder with config.json and safetensors files, a .safetensors file in it, or a name of the "
      "Hugging "
      "Face Hub, org/name[@revision]. Left out, it is $QTOOL_MODEL, or the small demo model that ships with "
      "qtool.\n"
      ".PP\n"
      "stdout carries results alone: text, a path, a table or one JSON object; all else goes to stderr.\n"
      ".SH COMMANDS\n";
  for (const CommandOutline& command : commands) text += of_command(command);
  text += ".SH COMMON OPTIONS\nEvery command has these.\n";
  for (const OptionOutline& option : commands.front().options)
    if (option.group == kCommonGroup) text += of_option(option);
  text += ".SH EXIT STATUS\n";
  for (const ExitMeaning& row : exit_meanings())
    text += ".TP\n" + bold(std::to_string(static_cast<int>(row.code))) + "\n" + roff(row.meaning) + "\n";
  text += ".SH ENVIRONMENT\n";
  for (const auto& variable : kVariables)
    text += ".TP\n" + bold(variable.names) + "\n" + roff(variable.meaning) + "\n";
  return text;
}

}  // namespace

std::function<int()> declare_manual(CLI::App& app, const CommonOptions& common) {
  add_help(app, {}, {"qtool manual | man -l -"});
  return [&common] {
    if (common.json)
      print_json({{"schema", "qtool.manual/1"}, {"text", manual()}});
    else
      print_out(manual());
    return 0;
  };
}

}  // namespace qtool
