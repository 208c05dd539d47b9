// What is wrong with a checkpoint: config.json, headers, quantized weights and tokenizer against each other,
// and values.
#include <algorithm>
#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "cmd/inspect.h"
#include "cmd/parallel.h"
#include "cmd/tensor_stats.h"
#include "core/model/skip_rules.h"
#include "core/quant/quantizer.h"
#include "formats/quant_config.h"
#include "formats/safetensors.h"
#include "formats/tokenizers.h"
#include "formats/weights_io.h"

namespace qtool {
namespace {

constexpr std::size_t kNamesInASentence = 3;

// "a, b, c and 12 more"
std::string some_of(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesInASentence); ++i)
    text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > kNamesInASentence)
    text += " and " + std::to_string(names.size() - kNamesInASentence) + " more";
  return text;
}

// How the weights are stored must be what quantization_config says: loaders since transformers 4.54 wait for
// exactly the pieces that it announces.
void compare_config(const QuantConfig& config, const std::vector<LogicalTensor>& tensors,
                    std::vector<Problem>& found) {
  std::map<std::string, std::vector<std::string>> contradictions;
  std::vector<std::string> unusual_blocks;
  const QuantSpec& said = config.spec;
  for (const LogicalTensor& tensor : tensors) {
    if (!tensor.quant || !tensor.faults.empty()) continue;
    const QuantSpec& is = *tensor.quant;
    const auto differs = [&](const std::string& sentence) {
      contradictions[sentence].push_back(tensor.name);
    };
    if (is.method != said.method || (is.method == QuantMethod::kBlock4 && is.code != said.code) ||
        is.nested != said.nested)
      differs("quantization_config announces " + scheme_name(said) + ", stored is " + scheme_name(is));
    else if (is.method == QuantMethod::kBlock4 && is.storage != said.storage)
      differs("bnb_4bit_quant_storage is " + std::string(info(said.storage).torch_name) +
              ", packed bytes are filed as " + std::string(info(is.storage).torch_name));
    if (is.method == QuantMethod::kBlock4 && is.block_size != 64) unusual_blocks.push_back(tensor.name);
  }
  for (const auto& [sentence, names] : contradictions)
    found.push_back({ExitCode::kMalformed, sentence + ": " + some_of(names)});
  if (!unusual_blocks.empty())
    found.push_back({ExitCode::kOk, "block size other than 64, which transformers does not write: " +
                                        some_of(unusual_blocks)});
}

// Which modules the skip list keeps, under the rules of transformers 4 and 5, against what is stored.
void compare_skips(const std::vector<std::string>& keys, const std::vector<LogicalTensor>& tensors,
                   std::vector<Problem>& found) {
  std::vector<std::string> quantized_yet_skipped;
  std::vector<std::string> ambiguous;
  for (const LogicalTensor& tensor : tensors) {
    if (!tensor.quant) continue;
    const auto any = [&](bool (*skips)(std::string_view, std::string_view)) {
      return std::any_of(keys.begin(), keys.end(),
                         [&](const std::string& key) { return skips(tensor.module, key); });
    };
    const bool by4 = any(transformers4_skips);
    const bool by5 = any(transformers5_skips);
    if (by4 && by5) quantized_yet_skipped.push_back(tensor.module);
    if (by4 != by5) ambiguous.push_back(tensor.module);
  }
  if (!quantized_yet_skipped.empty())
    found.push_back({ExitCode::kMalformed, "llm_int8_skip_modules names what is stored quantized: " +
                                               some_of(quantized_yet_skipped)});
  if (!ambiguous.empty())
    found.push_back(
        {ExitCode::kMalformed,
         "llm_int8_skip_modules keeps what is stored quantized under the rules of one of transformers 4 and "
         "5: " +
             some_of(ambiguous)});
}

// Linear layers that a loader replaces by quantized ones must be stored so; without a list it leaves out the
// head.
void find_plain_linears(const Architecture& architecture, const std::vector<std::string>& keys,
                        const std::vector<LogicalTensor>& tensors, std::vector<Problem>& found) {
  std::vector<std::string> plain;
  for (const LogicalTensor& tensor : tensors) {
    const auto role = role_of(architecture, tensor.name);
    if (tensor.quant || !role || !is_linear(role->role) || role->piece != Piece::kWeight) continue;
    if (kind_of(architecture, role->role) == ModuleKind::kOther) continue;  // no loader of today replaces it
    const bool left_out = keys.empty() ? role->role == Role::kHead
                                       : std::any_of(keys.begin(), keys.end(), [&](const std::string& key) {
                                           return transformers5_skips(tensor.module, key);
                                         });
    if (!left_out) plain.push_back(tensor.name);
  }
  if (!plain.empty())
    found.push_back({ExitCode::kMalformed,
                     "stored unquantized, but llm_int8_skip_modules does not say so: " + some_of(plain)});
}

// Linear layers that transformers 5 would replace.
std::ptrdiff_t replaced_modules(const Architecture& architecture, const std::vector<LogicalTensor>& tensors) {
  return std::count_if(tensors.begin(), tensors.end(), [&](const LogicalTensor& tensor) {
    const auto role = role_of(architecture, tensor.name);
    return role && is_linear(role->role) && role->role != Role::kHead && role->piece == Piece::kWeight &&
           kind_of(architecture, role->role) != ModuleKind::kOther;
  });
}

void check_quantization(const Checkpoint& checkpoint, const std::vector<LogicalTensor>& tensors,
                        std::vector<Problem>& found) {
  std::vector<std::string> quantized;
  for (const LogicalTensor& tensor : tensors)
    if (tensor.quant) quantized.push_back(tensor.name);
  try {
    const auto config = quant_config_of(checkpoint.config());
    if (!config && !quantized.empty())
      found.push_back({ExitCode::kMalformed,
                       "config.json has no quantization_config, but weights are stored quantized: " +
                           some_of(quantized)});
    if (!config) return;
    const Architecture* const architecture = known_architecture(checkpoint);
    if (quantized.empty()) {
      // transformers 5 replaces no layer of some families (Falcon), and writes just this.
      const bool nothing_to_quantize = architecture && replaced_modules(*architecture, tensors) == 0;
      found.push_back(
          {nothing_to_quantize ? ExitCode::kOk : ExitCode::kMalformed,
           "quantization_config announces " + scheme_name(config->spec) +
               ", but no weight is stored quantized" +
               (nothing_to_quantize ? ": transformers 5 quantizes no layer of this family" : "")});
    }
    compare_config(*config, tensors, found);
    compare_skips(config->skip_modules, tensors, found);
    if (architecture && !quantized.empty())
      find_plain_linears(*architecture, config->skip_modules, tensors, found);
  } catch (const Error& error) {
    found.push_back({error.code(), error.what()});
  }
}

void check_model(const Checkpoint& checkpoint, const std::vector<LogicalTensor>& tensors,
                 std::vector<Problem>& found) {
  try {
    const Architecture& architecture = architecture_of(checkpoint.config());
    const ModelSpec spec = model_spec_of(checkpoint);
    std::vector<std::string> strangers;
    for (const LogicalTensor& tensor : tensors)
      if (!role_of(architecture, tensor.name)) strangers.push_back(tensor.name);
    if (!strangers.empty())
      found.push_back({ExitCode::kOk, "not part of a " + spec.architecture + ": " + some_of(strangers)});
    for (const std::int64_t id : spec.eos_ids)  // transformers, too, waits for it in vain
      if (id < 0 || id >= spec.vocab_size)
        found.push_back({ExitCode::kOk, "'eos_token_id' is " + std::to_string(id) +
                                            ", but the embedding has " + std::to_string(spec.vocab_size) +
                                            " rows: no text will end by it"});
    const auto tokenizer = load_tokenizer(checkpoint.folder());
    if (tokenizer->vocab_size() > spec.vocab_size)
      found.push_back({ExitCode::kMalformed,
                       "the tokenizer has ids up to " + std::to_string(tokenizer->vocab_size() - 1) +
                           ", the embedding " + std::to_string(spec.vocab_size) + " rows"});
  } catch (const Error& error) {
    // A family or tokenizer that qtool does not know, or no tokenizer at all, is no fault of the checkpoint.
    const bool faultless = error.code() == ExitCode::kNotFound || error.code() == ExitCode::kUnsupported;
    found.push_back({faultless ? ExitCode::kOk : error.code(), error.what()});
  }
}

void check_headers(const Checkpoint& checkpoint, std::vector<Problem>& found) {
  std::vector<std::string> plain;
  for (const InputFile& file : checkpoint.files())
    if (file.path().ends_with(".safetensors") && !read_safetensors_header(file).metadata.contains("format"))
      plain.push_back(std::filesystem::path(file.path()).filename().string());
  if (!plain.empty())
    found.push_back(
        {ExitCode::kOk,
         "no \"format\" in the header's metadata, which transformers before 4.47 needs: " + some_of(plain)});
}

std::optional<Problem> values_problem(const std::string& name, const NonFinite& bad) {
  if (!bad.any()) return std::nullopt;
  return Problem{ExitCode::kVerification, name + ": " + bad.sentence()};
}

// Statistics of a quantized weight that are no numbers, or a weight that cannot be read at all.
std::optional<Problem> check_weight(const Checkpoint& checkpoint, const LogicalTensor& tensor) {
  try {
    (void)read_weight(checkpoint, tensor.module, 0.0f);
    for (const std::string& piece : tensor.pieces) {
      // Packed codes may be filed as floating-point numbers, which they are not.
      if (piece == tensor.name) continue;
      if (auto problem = values_problem(piece, non_finite(checkpoint, checkpoint.at(piece)))) return problem;
    }
    return std::nullopt;
  } catch (const Error& error) {
    if (error.code() == ExitCode::kInterrupted || error.code() == ExitCode::kMemory) throw;
    return Problem{error.code(), error.what()};
  }
}

std::optional<Problem> check_plain(const Checkpoint& checkpoint, const LogicalTensor& tensor) {
  return values_problem(tensor.name, non_finite(checkpoint, checkpoint.at(tensor.name)));
}

}  // namespace

const Architecture* known_architecture(const Checkpoint& checkpoint) {
  try {
    return &architecture_of(checkpoint.config());
  } catch (const Error&) {  // the sentence is among the problems
    return nullptr;
  }
}

std::string_view word_of(const Problem& problem) {
  switch (problem.code) {
    case ExitCode::kOk:
      return "note";
    case ExitCode::kVerification:
      return "values";
    default:
      return kind_of(problem.code);
  }
}

std::vector<Problem> find_problems(const Checkpoint& checkpoint, const std::vector<LogicalTensor>& tensors) {
  std::vector<Problem> found;
  std::map<std::string, std::vector<std::string>> remarks;
  for (const LogicalTensor& tensor : tensors) {
    for (const std::string& fault : tensor.faults)
      found.push_back({ExitCode::kMalformed, tensor.name + " " + fault});
    for (const std::string& remark : tensor.remarks) remarks[remark].push_back(tensor.name);
  }
  check_quantization(checkpoint, tensors, found);
  check_model(checkpoint, tensors, found);
  check_headers(checkpoint, found);
  for (const auto& [remark, names] : remarks)
    found.push_back({ExitCode::kOk, remark + ": " + some_of(names)});
  return found;
}

std::vector<Problem> check_values(const Checkpoint& checkpoint, const std::vector<LogicalTensor>& tensors,
                                  const CommonOptions& common) {
  std::vector<std::optional<Problem>> results(tensors.size());
  Progress progress(common, "reading", checkpoint.bytes());
  for_each_index(tensors.size(), thread_count(common), [&](std::size_t i) {
    const LogicalTensor& tensor = tensors[i];
    if (tensor.faults.empty())
      results[i] = tensor.quant ? check_weight(checkpoint, tensor) : check_plain(checkpoint, tensor);
    progress.advance(tensor.bytes);
  });
  std::vector<Problem> found;
  for (const auto& result : results)
    if (result) found.push_back(*result);
  return found;
}

void print_verification(const Checkpoint& checkpoint, const CommonOptions& common) {
  const std::vector<LogicalTensor> tensors = logical_tensors(checkpoint);
  std::vector<Problem> found = find_problems(checkpoint, tensors);
  const std::vector<Problem> more = check_values(checkpoint, tensors, common);
  found.insert(found.end(), more.begin(), more.end());

  // What contradicts itself weighs more than values.
  const Problem* worst = nullptr;
  for (const Problem& problem : found) {
    if (problem.code == ExitCode::kOk) continue;
    if (worst == nullptr ||
        (worst->code == ExitCode::kVerification && problem.code != ExitCode::kVerification))
      worst = &problem;
  }
  const auto quantized = std::count_if(tensors.begin(), tensors.end(),
                                       [](const LogicalTensor& tensor) { return tensor.quant.has_value(); });
  if (common.json) {
    Json problems = Json::array();
    for (const Problem& problem : found)
      problems.push_back({{"kind", word_of(problem)}, {"message", escaped(problem.message)}});
    print_json({{"schema", "qtool.inspect/1"},
                {"folder", escaped(checkpoint.folder())},
                {"verify",
                 {{"ok", worst == nullptr},
                  {"tensors", checkpoint.tensors().size()},
                  {"quantized", quantized},
                  {"bytes", checkpoint.bytes()},
                  {"problems", problems}}}});
  } else {
    std::string text;
    for (const Problem& problem : found)
      text += std::string(word_of(problem)) + ": " + escaped(problem.message) + "\n";
    if (worst == nullptr)
      text += "ok: " + std::to_string(checkpoint.tensors().size()) + " tensors, " +
              std::to_string(quantized) + " quantized weights, " + human_bytes(checkpoint.bytes()) +
              " read\n";
    print_out(text);
  }
  if (worst != nullptr) throw Error(worst->code, "not sound: " + worst->message, checkpoint.folder());
}

}  // namespace qtool
