// The command line as data, read from the declarations of its options: what completions and the manual are
// made of.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cmd/cli.h"

namespace qtool {

struct OptionOutline {
  std::vector<std::string> names;  // "-n", "--max-new-tokens"; of a positional its one name, "model"
  std::string value;               // "FILE", "nf4|fp4", "INT"; empty for a flag
  std::string initial;             // its default; empty for none
  std::string help;
  std::string group;
  std::string twin;             // the environment variable that stands for it; empty for none
  bool value_may_lack = false;  // as that of --tensors
};

struct CommandOutline {
  std::string name;
  std::string summary;
  bool shown = true;
  std::vector<OptionOutline> positionals;
  std::vector<OptionOutline> options;  // in the order of --help
  std::string footer;  // a line is a paragraph, one that begins with a space to be kept as it is
};

inline constexpr std::string_view kCommonGroup = "Common options";  // what every command has

std::vector<CommandOutline> outline_of(std::span<const Subcommand> commands);

// What a shell may offer for a value.
enum class Offer { kNothing, kWords, kFiles, kFolders };
Offer offer_for(const OptionOutline& option);
std::vector<std::string> words_of(const OptionOutline& option);  // "nf4|fp4": "nf4", "fp4"

}  // namespace qtool
