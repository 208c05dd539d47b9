// What is said about the command line itself: the overview, and what may have been meant.
#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "cmd/cli.h"
#include "cmd/wrap.h"

namespace qtool {
namespace {

// Typing errors between two words: letters left out, added, replaced, or two neighbours swapped (Damerau's
// distance, each place changed once).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before, last, row(b.size() + 1);  // of a's prefix to every prefix of b
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    before = std::exchange(last, row);
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      row[j + 1] = std::min({last[j] + (a[i] != b[j] ? 1 : 0), last[j + 1] + 1, row[j] + 1});
      if (i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j])
        row[j + 1] = std::min(row[j + 1], before[j - 1] + 1);
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

struct Alias {
  std::string_view theirs;
  std::string_view ours;
};

// What people know from other programs, and what it is called here: commands,
constexpr Alias kCommandAliases[] = {
    {"run", "generate"},        {"chat", "generate"},          {"complete", "generate"},
    {"convert", "quantize"},    {"create", "quantize"},        {"dequantize", "quantize"},
    {"show", "inspect"},        {"info", "inspect"},           {"verify", "inspect"},
    {"estimate", "footprint"},  {"memory", "footprint"},       {"eval", "evaluate"},
    {"perplexity", "evaluate"}, {"benchmark", "bench"},        {"download", "pull"},
    {"env", "doctor"},          {"completion", "completions"},
};

// and options: those of transformers' BitsAndBytesConfig, of llama.cpp and of mlx-lm.
constexpr Alias kOptionAliases[] = {
    {"--load-in-4bit", "--bits 4"},
    {"--load-in-8bit", "--bits 8"},
    {"--bnb-4bit-quant-type", "--quant-type"},
    {"--bnb-4bit-use-double-quant", "--double-quant"},
    {"--bnb-4bit-compute-dtype", "--compute-dtype"},
    {"--bnb-4bit-quant-storage", "--quant-storage"},
    {"--llm-int8-threshold", "--int8-threshold"},
    {"--llm-int8-skip-modules", "--skip-modules"},
    {"--model", "MODEL, right after the command"},
    {"--n-predict", "--max-new-tokens"},
    {"--max-tokens", "--max-new-tokens"},
    {"--ctx-size", "--context"},
    {"--reverse-prompt", "--stop"},
    {"--system-prompt", "--system"},
    {"--do-sample", "--sample"},
};

std::string unknown_option(const CLI::App& app, std::string word) {
  word = word.substr(0, word.find('='));
  const std::string sentence = "there is no option '" + escaped(word) + "'";
  std::replace(word.begin(), word.end(), '_', '-');
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    if (option->get_positional() && option->get_name(true) == "model") names.emplace_back("MODEL,");
  }
  for (const Alias& alias : kOptionAliases) {
    const std::string_view here = alias.ours.substr(0, alias.ours.find(' '));
    if (alias.theirs == word && std::find(names.begin(), names.end(), here) != names.end())
      return sentence + "; here it is " + std::string(alias.ours);
  }
  const auto meant = nearest(word, names);
  return sentence +
         (meant ? "; did you mean " + *meant + "?" : "; '" + app.get_name() + " --help' lists them");
}

}  // namespace

std::string version_line() { return "qtool " QTOOL_VERSION "\n"; }

std::span<const ExitMeaning> exit_meanings() {
  static constexpr ExitMeaning kMeanings[] = {
      {ExitCode::kOk, "ok"},
      {ExitCode::kInternal, "internal error"},
      {ExitCode::kUsage, "usage"},
      {ExitCode::kNotFound, "not found"},
      {ExitCode::kMalformed, "malformed or inconsistent file"},
      {ExitCode::kUnsupported, "unsupported architecture or feature"},
      {ExitCode::kMemory, "does not fit in memory, or over --budget"},
      {ExitCode::kDevice, "device or driver"},
      {ExitCode::kNetwork, "network or access"},
      {ExitCode::kVerification, "verification failed, or over a threshold"},
      {ExitCode::kIo, "reading or writing failed"},
      {ExitCode::kInterrupted, "interrupted"},
  };
  return kMeanings;
}

std::string overview(std::span<const Subcommand> commands) {
  std::string text =
      "qtool quantizes Hugging Face checkpoints exactly as bitsandbytes does, and runs them.\n\n"
      "  qtool COMMAND [MODEL] [options]\n\n"
      "Commands:\n";
  for (const Subcommand& command : commands) {
    if (command.shown == Shown::kNo) continue;
    std::string name(command.name);
    name.resize(12, ' ');
    text += "  " + name + std::string(command.summary) + "\n";
  }
  const auto paragraph = [&text](const std::string& words) {
    for (const std::string& line : wrapped(words, text_columns())) text += line + "\n";
  };
  text += "\n";
  paragraph(
      "MODEL is a folder, a .safetensors file in it, or a Hub name org/name[@revision]; left out, it is "
      "$QTOOL_MODEL "
      "or the small demo model that ships with qtool, so both of these run as they are:");
  text +=
      "\n  qtool quantize --bits 4 --quant-type nf4 --double-quant\n"
      "  qtool generate --prompt \"The capital of France is\"\n\n";
  paragraph(
      "'qtool COMMAND --help' lists a command's options, 'man qtool' those of all; each has an environment "
      "twin: "
      "--max-ram is $QTOOL_MAX_RAM.");
  std::string codes;
  for (const ExitMeaning& row : exit_meanings())
    codes += (codes.empty() ? "" : "; ") + std::to_string(static_cast<int>(row.code)) + " " +
             std::string(row.meaning);
  paragraph("stdout carries results only. Exit codes: " + codes + ".");
  return text;
}

const Subcommand& find_command(std::span<const Subcommand> commands, const std::string& name) {
  std::vector<std::string> names;
  for (const Subcommand& command : commands) {
    if (command.name == name) return command;
    names.emplace_back(command.name);
  }
  for (const Alias& alias : kCommandAliases)
    if (alias.theirs == name)
      throw Error(ExitCode::kUsage,
                  "there is no command '" + name + "'; here it is '" + std::string(alias.ours) + "'");
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
