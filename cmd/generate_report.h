// What generate tells about a run: its JSON document and its last lines on stderr.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/model/batch.h"
#include "core/model/session.h"
#include "formats/json.h"

namespace qtool {

// What a Generation does not know of itself.
struct GeneratedText {
  std::optional<std::string> prompt;  // nothing where ids came in and there is no tokenizer
  std::vector<std::int32_t> prompt_tokens;
  bool has_text = false;  // the new tokens have text
  std::string device;
  double load_s = 0.0;
};

// The prompt and what came of it, without figures: what a line of a batch answers.
Json generation_json(const GeneratedText& about, const Generation& generation);

// {"schema": "qtool.generate/1", ...}: the same with figures.
Json generate_report(const GeneratedText& about, const Generation& generation, const Transformer& transformer,
                     std::int64_t peak_bytes);

// Speed and memory, logged.
void log_summary(const GeneratedText& about, const Generation& generation, const Transformer& transformer,
                 std::int64_t peak_bytes);

// The same of a batch that took `seconds` after loading, in `slots` places.
struct BatchRunFigures {
  BatchFigures of_steps;
  std::size_t lines = 0, failed = 0;
  int slots = 1;
  double load_s = 0.0, seconds = 0.0;
  std::string device;
};
void log_batch(const BatchRunFigures& figures, const Transformer& transformer, std::int64_t peak_bytes);

}  // namespace qtool
