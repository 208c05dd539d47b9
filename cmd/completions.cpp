// qtool completions: what a shell needs to complete qtool's command line, made from the declarations of its
// options. The scripts are static: pressing Tab starts no process.
#include <nlohmann/json.hpp>

#include "cmd/cli_outline.h"
#include "cmd/commands.h"

namespace qtool {
namespace {

std::string joined(const std::vector<std::string>& words, std::string_view separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : std::string(separator)) + word;
  return text;
}

// `text` with `escape` before each of `special`.
std::string guarded(std::string_view text, std::string_view special, std::string_view escape) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) out += escape;
    out += c;
  }
  return out;
}

// Within '...' of bash and zsh, which know no escape there.
std::string within_quotes(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out;
}

// The first clause of a help text: menus have little room.
std::string brief(const std::string& help) { return help.substr(0, help.find_first_of(";:")); }

std::string shown_names(std::span<const CommandOutline> commands) {
  std::string names;
  for (const CommandOutline& command : commands)
    if (command.shown) names += command.name + " ";
  return names;
}

// --- bash

std::string bash_offer(const OptionOutline& option) {
  switch (offer_for(option)) {
    case Offer::kWords:
      return "words='" + joined(words_of(option), " ") + "'";
    case Offer::kFiles:
      return "kind=file";
    case Offer::kFolders:
      return "kind=directory";
    case Offer::kNothing:
      return "kind=none";
  }
  return "";
}

std::string bash_command(const CommandOutline& command) {
  std::string text = "    " + command.name + ")\n";
  std::string all;
  std::string cases;
  for (const OptionOutline& option : command.options) {
    all += joined(option.names, " ") + " ";
    if (!option.value.empty() && !option.value_may_lack)
      cases += "        " + joined(option.names, "|") + ") " + bash_offer(option) + " ;;\n";
  }
  all.pop_back();
  text += "      options='" + all + "'\n";
  text += "      case $previous in\n" + cases;
  if (!command.positionals.empty()) text += "        *) " + bash_offer(command.positionals.front()) + " ;;\n";
  return text + "      esac\n      ;;\n";
}

std::string bash(std::span<const CommandOutline> commands) {
  std::string text =
      R"(# Completions of qtool for bash, written by 'qtool completions bash'.
_qtool() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local options='' words='' kind=none
  COMPREPLY=()
  if [[ $current == '=' ]]; then  # --bits=4 comes as three words
    current=''
  elif [[ $previous == '=' ]]; then
    previous=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W ')" +
      shown_names(commands) + R"(help --help --version' -- "$current")
    return
  fi
  case ${COMP_WORDS[1]} in
    help)
      ((COMP_CWORD == 2)) && words=')" +
      shown_names(commands) + R"('
      ;;
)";
  for (const CommandOutline& command : commands) text += bash_command(command);
  text += R"(  esac
  if [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
  elif [[ -n $words ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  elif [[ $kind != none ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -A "$kind" -- "$current")
  fi
}
complete -F _qtool qtool
)";
  return text;
}

// --- zsh: what _arguments calls a spec, '(-o --output)'{-o,--output}'[help]:DIR:_files -/'

std::string zsh_offer(const OptionOutline& option) {
  const std::string value = guarded(option.value, ":[]", "\\");
  switch (offer_for(option)) {
    case Offer::kWords:
      return value + ":(" + joined(words_of(option), " ") + ")";
    case Offer::kFiles:
      return value + ":_files";
    case Offer::kFolders:
      return value + ":_files -/";
    case Offer::kNothing:
      return value + ":";
  }
  return "";
}

std::string zsh_option(const OptionOutline& option) {
  const std::string help = "[" + within_quotes(guarded(brief(option.help), "[]\\", "\\")) + "]";
  const std::string value =
      option.value.empty() ? "" : (option.value_may_lack ? "::" : ":") + within_quotes(zsh_offer(option));
  std::vector<std::string>
      names;  // "-o+" takes "-oX" and "-o X", "--output=" takes "--output=X" and "--output X"
  for (const std::string& name : option.names)
    names.push_back(name + (value.empty() ? "" : name.starts_with("--") ? "=" : "+"));
  const bool repeats = option.help.ends_with("repeatable");
  const std::string instead = repeats ? "'*'" : "'(" + joined(option.names, " ") + ")'";
  const std::string spelled = names.size() == 1 ? names.front() : "{" + joined(names, ",") + "}";
  return instead + spelled + "'" + help + value + "'";
}

std::string zsh(std::span<const CommandOutline> commands) {
  std::string text =
      "#compdef qtool\n# Completions of qtool for zsh, written by 'qtool completions zsh'.\n"
      "_qtool() {\n  local -a commands\n  commands=(\n";
  for (const CommandOutline& command : commands)
    if (command.shown)
      text += "    '" + command.name + ":" + within_quotes(guarded(command.summary, ":", "\\")) + "'\n";
  text +=
      "    'help:say how a command is used'\n  )\n"
      "  if ((CURRENT == 2)); then\n"
      "    _describe -t commands 'command of qtool' commands\n"
      "    return\n  fi\n"
      "  local command=$words[2]\n"
      "  shift words\n"
      "  ((CURRENT--))\n"
      "  case $command in\n"
      "    help) _describe -t commands 'command of qtool' commands ;;\n";
  for (const CommandOutline& command : commands) {
    text += "    " + command.name + ")\n      _arguments -s -S";
    for (const OptionOutline& option : command.options) text += " \\\n        " + zsh_option(option);
    for (const OptionOutline& option : command.positionals)
      text += " \\\n        '::" +
              within_quotes(option.names.front() + ":" + zsh_offer(option).substr(option.value.size() + 1)) +
              "'";
    text += "\n      ;;\n";
  }
  return text + "  esac\n}\n_qtool \"$@\"\n";
}

// --- fish

std::string fish_quoted(std::string_view text) { return "'" + guarded(text, "'\\", "\\") + "'"; }

std::string fish_option(const std::string& condition, const OptionOutline& option) {
  std::string line = "complete -c qtool -n " + condition;
  for (const std::string& name : option.names)
    line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  switch (offer_for(option)) {
    case Offer::kWords:
      line += " -x -a " + fish_quoted(joined(words_of(option), " "));
      break;
    case Offer::kFiles:
      line += " -r -F";
      break;
    case Offer::kFolders:
      line += " -x -a '(__fish_complete_directories)'";
      break;
    case Offer::kNothing:
      line += option.value.empty() || option.value_may_lack ? "" : " -x";
      break;
  }
  return line + " -d " + fish_quoted(brief(option.help)) + "\n";
}

std::string fish(std::span<const CommandOutline> commands) {
  std::string text =
      "# Completions of qtool for fish, written by 'qtool completions fish'.\ncomplete -c qtool -f\n";
  for (const CommandOutline& command : commands) {
    if (command.shown)
      text += "complete -c qtool -n __fish_use_subcommand -a " + command.name + " -d " +
              fish_quoted(command.summary) + "\n";
    const std::string condition = "'__fish_seen_subcommand_from " + command.name + "'";
    for (const OptionOutline& option : command.options) text += fish_option(condition, option);
    for (const OptionOutline& option : command.positionals) {
      if (offer_for(option) == Offer::kFolders)
        text += "complete -c qtool -n " + condition + " -a '(__fish_complete_directories)'\n";
      else if (offer_for(option) == Offer::kWords)
        text +=
            "complete -c qtool -n " + condition + " -a " + fish_quoted(joined(words_of(option), " ")) + "\n";
    }
  }
  return text;
}

constexpr struct {
  std::string_view name;
  std::string (*script)(std::span<const CommandOutline> commands);
} kShells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

int completions(const CommonOptions& common, const std::string& shell) {
  std::string known;
  for (const auto& row : kShells) {
    if (row.name == shell) {
      const std::string script = row.script(outline_of(subcommands()));
      if (common.json)
        print_json({{"schema", "qtool.completions/1"}, {"shell", shell}, {"text", script}});
      else
        print_out(script);
      return 0;
    }
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(ExitCode::kUsage, "completions of which shell? known are " + known +
                                    (shell.empty() ? "" : "; '" + escaped(shell) + "' is not"));
}

}  // namespace

std::function<int()> declare_completions(CLI::App& app, const CommonOptions& common) {
  const auto shell = std::make_shared<std::string>();
  app.add_option("shell", *shell, "bash, zsh or fish")->type_name("bash|zsh|fish");
  add_help(app, {"An installed qtool has brought its completions with it; this is for one that has not."},
           {"qtool completions bash > ~/.local/share/bash-completion/completions/qtool",
            "qtool completions fish > ~/.config/fish/completions/qtool.fish",
            "qtool completions zsh > \"${fpath[1]}/_qtool\""});
  return [&common, shell] { return completions(common, *shell); };
}

}  // namespace qtool
