// A line of --batch-file -> what it asks for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cmd/generate_options.h"
#include "formats/chat_template_files.h"
#include "formats/json.h"

namespace qtool {

struct BatchLine {
  // A prompt's text, a conversation, or token ids.
  std::variant<std::string, Conversation, std::vector<std::int32_t>> prompt;
  ContinueOptions options;  // the command's, where the line has none of its own
};

// `text` is a JSON object with one of `prompt`, `messages` (with `tools`, `documents` and
// `chat_template_kwargs`) and `prompt_tokens`, `id`, and options under their long names with _ for -; or a
// string, the prompt. `id` is set where there is one, whatever it is and whatever else may be wrong. `where`
// names the line in errors: kMalformed where it is no JSON, else kUsage.
BatchLine parse_batch_line(std::string_view text, const ContinueOptions& defaults, const std::string& where,
                           std::optional<Json>& id);

// The keys of a line, for --help: "prompt, messages, ...".
std::string batch_line_keys();

}  // namespace qtool
