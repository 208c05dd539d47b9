#include "cmd/generate_report.h"

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "cmd/cli.h"

namespace qtool {
namespace {

double per_second(double count, double seconds) { return seconds > 0.0 ? count / seconds : 0.0; }

Json json_of(const TokenLogprob& entry) { return {{"token", entry.token}, {"logprob", entry.logprob}}; }

Json json_of(const Logprobs& entry) {
  Json object = json_of(entry.chosen);
  Json& top = object["top"] = Json::array();
  for (const TokenLogprob& other : entry.top) top.push_back(json_of(other));
  return object;
}

void log_memory(const Transformer& transformer, std::int64_t peak_bytes) {
  spdlog::info("memory: weights {}, cache {}, workspace {}, peak {}",
               human_bytes(transformer.weights_bytes()), human_bytes(transformer.kv_cache_bytes()),
               human_bytes(transformer.workspace_bytes()), human_bytes(peak_bytes));
}

}  // namespace

Json generation_json(const GeneratedText& about, const Generation& generation) {
  Json report;
  report["prompt"] = about.prompt ? Json(*about.prompt) : Json();
  report["prompt_tokens"] = about.prompt_tokens;
  report["tokens"] = generation.tokens;
  report["text"] = about.has_text ? Json(generation.text) : Json();
  report["finish_reason"] = name_of(generation.finish_reason);
  if (generation.logprobs.size() == generation.tokens.size() && !generation.logprobs.empty()) {
    Json& list = report["logprobs"] = Json::array();
    for (const Logprobs& entry : generation.logprobs) list.push_back(json_of(entry));
  }
  if (!generation.prompt_logprobs.empty()) {
    Json& list = report["prompt_logprobs"] = Json::array();
    for (const auto& entry : generation.prompt_logprobs) list.push_back(entry ? json_of(*entry) : Json());
  }
  return report;
}

Json generate_report(const GeneratedText& about, const Generation& generation, const Transformer& transformer,
                     std::int64_t peak_bytes) {
  Json report = generation_json(about, generation);
  report["schema"] = "qtool.generate/1";
  const auto decoded = static_cast<double>(generation.decode_tokens);
  const auto bytes = static_cast<double>(generation.decode_bytes_per_token);
  report["timings"] = {{"load_s", about.load_s},
                       {"prefill_tokens", about.prompt_tokens.size()},
                       {"prefill_s", generation.prefill_s},
                       {"decode_tokens", generation.decode_tokens},
                       {"decode_s", generation.decode_s},
                       {"decode_tokens_per_s", per_second(decoded, generation.decode_s)},
                       {"decode_bytes_per_token", generation.decode_bytes_per_token},
                       {"decode_gb_per_s", per_second(decoded * bytes * 1e-9, generation.decode_s)}};
  report["memory"] = {{"device", about.device},
                      {"weights_bytes", transformer.weights_bytes()},
                      {"kv_cache_bytes", transformer.kv_cache_bytes()},
                      {"workspace_bytes", transformer.workspace_bytes()},
                      {"peak_bytes", peak_bytes}};
  return report;
}

void log_summary(const GeneratedText& about, const Generation& generation, const Transformer& transformer,
                 std::int64_t peak_bytes) {
  const auto prefilled = static_cast<double>(about.prompt_tokens.size());
  const auto decoded = static_cast<double>(generation.decode_tokens);
  const auto bytes = static_cast<double>(generation.decode_bytes_per_token);
  spdlog::info(
      "{}: prompt {} tokens, {:.1f} tok/s; new {} tokens ({}), {:.1f} tok/s, {:.2f} GB/s; load {:.2f} s",
      about.device, about.prompt_tokens.size(), per_second(prefilled, generation.prefill_s),
      generation.tokens.size(), name_of(generation.finish_reason), per_second(decoded, generation.decode_s),
      per_second(decoded * bytes * 1e-9, generation.decode_s), about.load_s);
  log_memory(transformer, peak_bytes);
}

void log_batch(const BatchRunFigures& figures, const Transformer& transformer, std::int64_t peak_bytes) {
  const BatchFigures& steps = figures.of_steps;
  const auto prompt = static_cast<double>(steps.prompt_tokens), fresh = static_cast<double>(steps.new_tokens);
  spdlog::info(
      "{}: {} lines ({} failed), prompt {} tokens, new {} tokens in {:.2f} s: {:.1f} new tok/s, {:.1f} tok/s "
      "in "
      "all; mean batch {:.1f} of {}, {} steps; load {:.2f} s",
      figures.device, figures.lines, figures.failed, steps.prompt_tokens, steps.new_tokens, figures.seconds,
      per_second(fresh, figures.seconds), per_second(prompt + fresh, figures.seconds), steps.mean_batch(),
      figures.slots, steps.steps, figures.load_s);
  log_memory(transformer, peak_bytes);
}

}  // namespace qtool
