#include "cmd/commands.h"

namespace qtool {
namespace {

constexpr Subcommand kCommands[] = {
    {"quantize", "quantize a checkpoint as bitsandbytes does (or dequantize it)", declare_quantize},
    {"generate", "continue a prompt with a model", declare_generate},
    {"inspect", "say what is in a checkpoint, and what is wrong with it", declare_inspect},
    {"footprint", "say how much memory a model takes, under every scheme", declare_footprint},
    {"evaluate", "perplexity on a text, and distance from a reference model", declare_evaluate},
    {"bench", "tokens per second, beside what the device can do", declare_bench},
    {"tokenize", "text to token ids and back", declare_tokenize},
    {"pull", "download a model from the Hugging Face Hub, or bring it up to date", declare_pull},
    {"doctor", "say what this machine offers qtool, and what is missing", declare_doctor, Takes::kNoModel},
    {"completions", "print the completions of a shell: bash, zsh or fish", declare_completions,
     Takes::kNoModel, Shown::kNo},
    {"manual", "print the manual page, qtool.1", declare_manual, Takes::kNoModel, Shown::kNo},
};

}  // namespace

std::span<const Subcommand> subcommands() { return kCommands; }

}  // namespace qtool
