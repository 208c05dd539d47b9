// A whole checkpoint, changed here and there, through what qtool does with one: open it and check it against
// its config.json, and then predict its memory, quantize it and read that back, run it, or use its tokenizer
// or its chat template.
//
// The first bytes choose the sample and what is to be done with it, the others are changes
// (mini_mutation.cpp).

#include "core/model/memory.h"
#include "core/quant/reference_quantizer.h"
#include "core/text/jinja/chat_template.h"
#include "formats/architectures.h"
#include "formats/chat_template_files.h"
#include "formats/model_files.h"
#include "formats/quant_config.h"
#include "formats/quantize_checkpoint.h"
#include "formats/tokenizers.h"
#include "formats/verify_checkpoint.h"
#include "formats/weights_io.h"
#include "test/fuzz/mini_checkpoint.h"

namespace qtool::test {
namespace {

constexpr std::size_t kControlBytes = 4;

// What inspect and footprint look at.
void inspect(const Checkpoint& checkpoint) {
  const ModelSpec spec = model_spec_of(checkpoint);
  const Plan plan = stored_plan(checkpoint);
  must_hold(plan.bytes() >= 0 && plan.parameters() >= 0, "a plan of negative size");
  must_hold(plan.bytes() <= checkpoint.bytes(), "a plan has more bytes than its checkpoint");
  plan.hf_memory_footprint(transformers_buffer_bytes(spec));
  const std::int64_t context = default_context_tokens(spec, 0);
  const DType dtype = default_kv_dtype(spec.dtype);
  must_hold(kv_cache_bytes(spec, 1, context, dtype) >= 0, "a cache of negative size");
  must_hold(workspace_bytes(spec, capacity_of(1, context)) >= 0, "a workspace of negative size");
}

Plan plan_of(const Checkpoint& checkpoint, std::uint8_t choice) {
  const ModelSpec spec = model_spec_of(checkpoint);
  PlanOptions options;
  options.quant.method = choice % 3 == 0   ? QuantMethod::kNone
                         : choice % 3 == 1 ? QuantMethod::kInt8
                                           : QuantMethod::kBlock4;
  options.quant.code = choice & 8 ? Code4::kFp4 : Code4::kNf4;
  options.quant.nested = choice & 16;
  options.all_linears = choice & 32;
  options.rest_dtype = spec.dtype;
  options.tied_head = spec.tied_head;
  options.head_module = module_name(architecture_of(checkpoint.config()), Role::kHead, -1);
  return make_plan(source_tensors(checkpoint), options);
}

// What was made of an accepted checkpoint is one, too, and its values are those of the input.
void quantize(const Checkpoint& checkpoint, std::uint8_t choice, const FuzzFolder& parent, bool finite) {
  const Plan plan = plan_of(checkpoint, choice);
  AtomicFolder output(parent / "out", true);
  StreamOptions options;
  if (choice & 64) options.max_shard_bytes = 20'000;
  quantize_checkpoint(checkpoint, plan, ReferenceQuantizer(), output, options);
  output.write("config.json", to_python_json(output_config(checkpoint.config(), plan)));
  copy_model_files(checkpoint.folder(), output);
  const std::string folder = std::filesystem::path(output.path_of("config.json")).parent_path().string();
  try {
    model_spec_of(Checkpoint::open(folder));
  } catch (const Error& error) {
    throw internal_error(std::string("what was quantized cannot be opened: ") + error.what());
  }
  const Verification result = verify_checkpoint(checkpoint, plan, folder, options);
  if (finite && !result.problems.empty())
    throw internal_error("not what was meant: " + result.problems.front());
  output.commit();
}

void tokenize(const std::string& folder) {
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(folder);
  tokenizer->decode(tokenizer->encode("Caf\u00E9 <s> 12", true), true);
}

void render(const std::string& folder) {
  const auto templates = read_chat_templates(folder);
  const NamedTemplate* chosen = choose_chat_template(templates, false);
  if (!chosen) return;
  ChatInput input;
  input.messages =
      named_values(R"({"messages": [{"role": "user", "content": "Hi"}]})", "fuzz").front().second;
  input.names = read_special_tokens(folder);
  ChatTemplate(chosen->source, chosen->name).render(input);
}

}  // namespace
}  // namespace qtool::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qtool::test;
  static const FuzzFolder parent;
  static const FuzzFolder input;
  if (size < kControlBytes) return 0;
  const std::uint8_t family = data[0], scheme = data[1], way = data[2], choice = data[3];
  MiniCheckpoint mini = mini_sample(family, scheme % kMiniSchemes);
  if (way & 4) shard(mini);
  const MiniChange change = mutate(mini, text_of(data + kControlBytes, size - kControlBytes));
  write_mini(mini, input);

  return survives([&] {
    if (way % 4 == 0) tokenize(input.path());
    if (way % 4 == 1) render(input.path());
    const qtool::Checkpoint checkpoint = qtool::Checkpoint::open(input.path());
    if (way % 4 == 1) inspect(checkpoint);
    if (way % 4 == 2) quantize(checkpoint, choice, parent, !change.values_changed);
    if (way % 4 == 3) run_mini(checkpoint);
  });
}
