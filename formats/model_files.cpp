#include "formats/model_files.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"
#include "formats/architectures.h"
#include "formats/quant_config.h"
#include "formats/system_error.h"

namespace qtool {
namespace {

constexpr std::string_view kCopied[] = {
    "generation_config.json", "tokenizer.json",          "tokenizer.model", "tokenizer_config.json",
    "added_tokens.json",      "special_tokens_map.json", "vocab.json",      "merges.txt",
    "chat_template.jinja",    "chat_template.json",
};
constexpr std::int64_t kLargestCopied = std::int64_t{1} << 30;
constexpr std::int64_t kCopyBytes = std::int64_t{1} << 20;

// Piece by piece: a tokenizer may be larger than the memory that a conversion was given.
void copy_file(const std::string& from, const std::string& to, std::vector<std::byte>& buffer) {
  const InputFile in(from);
  if (in.size() > kLargestCopied)
    throw Error(ExitCode::kMalformed,
                "'" + escaped(from) + "' is larger than the " + std::to_string(kLargestCopied) +
                    " bytes such a file may have",
                from);
  OutputFile out(to);
  for (std::int64_t done = 0; done < in.size(); done += std::ssize(buffer)) {
    buffer.resize(static_cast<std::size_t>(std::min(kCopyBytes, in.size() - done)));
    in.read_at(done, buffer);
    out.write_at(done, buffer);
  }
  out.sync();
}

}  // namespace

bool is_copied_file(const std::string& name) {
  return std::find(std::begin(kCopied), std::end(kCopied), name) != std::end(kCopied) ||
         name.ends_with(".tiktoken") || name.starts_with("LICENSE");
}

Json output_config(const Json& source, const Plan& plan) {
  Json config = language_config(source);
  if (!config.contains("architectures") && source.contains("architectures"))
    config["architectures"] = {model_spec_of(source).architecture};  // no longer that of the whole
  const std::string dtype(info(plan.rest_dtype).torch_name);
  if (config.contains("torch_dtype")) config["torch_dtype"] = dtype;
  if (config.contains("dtype") || !config.contains("torch_dtype")) config["dtype"] = dtype;
  config.erase("quantization_config");
  if (plan.quant.method != QuantMethod::kNone)
    config["quantization_config"] = quant_config_json(plan.quant, plan.skip_modules);
  return config;
}

std::vector<std::string> copy_model_files(const std::string& folder, AtomicFolder& output) {
  std::vector<std::string> names;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    const std::string name = entry.path().filename().string();
    if (is_copied_file(name) && entry.is_regular_file(failure)) names.push_back(name);
  }
  if (failure) throw system_failure("cannot list", folder, failure);
  std::sort(names.begin(), names.end());
  std::vector<std::byte> buffer;
  for (const std::string& name : names) copy_file(folder + "/" + name, output.path_of(name), buffer);
  return names;
}

}  // namespace qtool
