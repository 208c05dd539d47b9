#include "cmd/model_plan.h"

#include <spdlog/spdlog.h>

#include "core/error.h"
#include "formats/architectures.h"
#include "formats/weights_io.h"

namespace qtool {

Plan plan_for(const Checkpoint& checkpoint, const ModelSpec& spec, const QuantSpec& quant,
              const SchemeOptions& scheme, DType rest_dtype) {
  PlanOptions options;
  options.quant = quant;
  options.rest_dtype = rest_dtype;
  if (quant.method != QuantMethod::kNone) options.skip_modules = scheme.skip_modules;
  options.all_linears = scheme.all_linears;
  options.tied_head = spec.tied_head;
  options.head_module = module_name(architecture_of(checkpoint.config()), Role::kHead, -1);
  return make_plan(source_tensors(checkpoint), options);
}

void check_context(std::int64_t context, const ModelSpec& spec) {
  if (context <= spec.max_positions) return;
  const std::string beyond = "--context " + std::to_string(context) + " is more than the " +
                             std::to_string(spec.max_positions) + " positions this model ";
  if (spec.learned_positions) throw Error(ExitCode::kUsage, beyond + "has learned; it knows none beyond");
  spdlog::warn("{}was made for; its output may be poor there", beyond);
}

}  // namespace qtool
