#include "cmd/cli_outline.h"

namespace qtool {
namespace {

OptionOutline outline_of(const CLI::Option& option) {
  OptionOutline outline;
  for (const std::string& name : option.get_snames()) outline.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) outline.names.push_back("--" + name);
  if (outline.names.empty()) outline.names.push_back(option.get_name(true));
  outline.value = value_of(option);
  outline.initial = option.get_default_str();
  outline.help = option.get_description();
  outline.group = option.get_group();
  outline.twin = option.get_envname();
  outline.value_may_lack = !outline.value.empty() && option.get_expected_min() == 0;
  return outline;
}

CommandOutline outline_of(const Subcommand& command) {
  CLI::App app;
  CommonOptions common;
  begin_options(app, "qtool " + std::string(command.name), command, common);
  const auto never_run = command.declare(app, common);
  add_common_options(app, common);

  CommandOutline outline;
  outline.name = command.name;
  outline.summary = command.summary;
  outline.shown = command.shown == Shown::kYes;
  outline.footer = app.get_footer();
  for (const std::string& group : app.get_groups())
    for (const CLI::Option* option : app.get_options())
      if (option->get_group() == group)
        (option->get_positional() ? outline.positionals : outline.options).push_back(outline_of(*option));
  return outline;
}

}  // namespace

std::vector<CommandOutline> outline_of(std::span<const Subcommand> commands) {
  std::vector<CommandOutline> outlines;
  for (const Subcommand& command : commands) outlines.push_back(outline_of(command));
  return outlines;
}

Offer offer_for(const OptionOutline& option) {
  if (option.value.find('|') != std::string::npos) return Offer::kWords;
  if (option.value == "FILE") return Offer::kFiles;
  if (option.value == "DIR" || option.value == "MODEL") return Offer::kFolders;
  return Offer::kNothing;
}

std::vector<std::string> words_of(const OptionOutline& option) {
  std::vector<std::string> words(1);
  for (const char c : option.value) {
    if (c == '|')
      words.emplace_back();
    else
      words.back() += c;
  }
  return words;
}

}  // namespace qtool
