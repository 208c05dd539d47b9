#include "cmd/model_plan.h"

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

}  // namespace qtool
