// What is said about the command line itself: the overview, and what may have been meant.
#include <algorithm>
#include <numeric>
#include <optional>

#include "cmd/cli.h"

namespace qtool {
namespace {

// Levenshtein distance: insertions, deletions, replacements.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);  // distances of a's prefix to every prefix of b
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] != b[j] ? 1 : 0);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j + 1] + 1, row[j] + 1});
    }
  }
  return row.back();
}

// The candidate that `typed` begins, or the nearest one within a third of its length.
std::optional<std::string> nearest(std::string_view typed, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  std::size_t least = std::max<std::size_t>(2, typed.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const bool begun = typed.size() >= 2 && candidate.starts_with(typed);
    const std::size_t found = begun ? 0 : distance(typed, candidate);
    if (found < least) {
      least = found;
      best = candidate;
    }
  }
  return best;
}

// What people know from transformers' BitsAndBytesConfig, and what it is called here.
constexpr struct {
  std::string_view theirs;
  std::string_view ours;
} kAliases[] = {
    {"--load-in-4bit", "--bits 4"},
    {"--load-in-8bit", "--bits 8"},
    {"--bnb-4bit-quant-type", "--quant-type"},
    {"--bnb-4bit-use-double-quant", "--double-quant"},
    {"--bnb-4bit-compute-dtype", "--compute-dtype"},
    {"--bnb-4bit-quant-storage", "--quant-storage"},
    {"--llm-int8-threshold", "--int8-threshold"},
    {"--llm-int8-skip-modules", "--skip-modules"},
};

std::string unknown_option(const CLI::App& app, std::string word) {
  word = word.substr(0, word.find('='));
  const std::string sentence = "there is no option '" + escaped(word) + "'";
  std::replace(word.begin(), word.end(), '_', '-');
  for (const auto& alias : kAliases)
    if (alias.theirs == word) return sentence + "; here it is " + std::string(alias.ours);
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  const auto meant = nearest(word, names);
  return sentence +
         (meant ? "; did you mean " + *meant + "?" : "; '" + app.get_name() + " --help' lists them");
}

}  // namespace

std::string version_line() { return "qtool " QTOOL_VERSION "\n"; }

std::string overview(std::span<const Subcommand> commands) {
  std::string text =
      "qtool quantizes Hugging Face checkpoints exactly as bitsandbytes does, and runs them.\n\n"
      "  qtool COMMAND [MODEL] [options]\n\n"
      "Commands:\n";
  for (const Subcommand& command : commands) {
    std::string name(command.name);
    name.resize(12, ' ');
    text += "  " + name + std::string(command.summary) + "\n";
  }
  text +=
      "\nMODEL is a folder, a .safetensors file in it, or a Hub name org/name[@revision]; left out, it is "
      "$QTOOL_MODEL\n"
      "or the small demo model that ships with qtool, so both of these run as they are:\n\n"
      "  qtool quantize --bits 4 --quant-type nf4 --double-quant\n"
      "  qtool generate --prompt \"The capital of France is\"\n\n"
      "'qtool COMMAND --help' lists a command's options; each has an environment twin: --max-ram is "
      "$QTOOL_MAX_RAM.\n"
      "stdout carries results only. Exit codes: 0 ok, 1 internal, 2 usage, 3 not found, 4 malformed file,\n"
      "5 unsupported, 6 memory, 7 device, 8 network, 9 verification failed, 10 read or write, 130 "
      "interrupted.\n";
  return text;
}

const Subcommand& find_command(std::span<const Subcommand> commands, const std::string& name) {
  std::vector<std::string> names;
  for (const Subcommand& command : commands) {
    if (command.name == name) return command;
    names.emplace_back(command.name);
  }
  const auto meant = nearest(name, names);
  throw Error(ExitCode::kUsage, "there is no command '" + escaped(name) + "'; " +
                                    (meant ? "did you mean " + *meant + "?" : "'qtool --help' lists them"));
}

Error usage_error(const CLI::App& app, const CLI::ParseError& complaint) {
  if (dynamic_cast<const CLI::ExtrasError*>(&complaint) != nullptr) {
    const std::vector<std::string> left = app.remaining();
    for (const std::string& word : left)
      if (word.size() > 1 && word[0] == '-') return Error(ExitCode::kUsage, unknown_option(app, word));
    if (!left.empty()) return Error(ExitCode::kUsage, "unexpected argument '" + escaped(left.front()) + "'");
  }
  std::string sentence = complaint.what();
  std::replace(sentence.begin(), sentence.end(), '\n', ' ');
  for (const CLI::Option* option : app.get_options()) {  // what was not typed came from the environment
    const char* const twin =
        option->get_envname().empty() ? nullptr : std::getenv(option->get_envname().c_str());
    if (twin != nullptr && *twin != '\0' && sentence.find(option->get_name()) != std::string::npos)
      sentence += "; $" + option->get_envname() + " is '" + escaped(twin) + "'";
  }
  return Error(ExitCode::kUsage, sentence);
}

}  // namespace qtool
