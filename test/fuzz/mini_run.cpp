#include "core/cpu/cpu_backend.h"
#include "core/model/memory.h"
#include "core/model/session.h"
#include "formats/architectures.h"
#include "formats/weights_io.h"
#include "test/fuzz/mini_checkpoint.h"

namespace qtool::test {

void run_mini(const Checkpoint& checkpoint) {
  constexpr std::int64_t kContext = 8;
  static const std::unique_ptr<Backend> backend = make_cpu_backend(1);
  const ModelSpec spec = model_spec_of(checkpoint);
  const auto source = make_weight_source(checkpoint, nullptr, nullptr);
  Transformer::Options options;
  options.capacity = capacity_of(1, kContext);
  Transformer transformer(spec, *backend, *source, options, nullptr);
  GenerateParams params;
  params.max_new_tokens = 2;
  generate(transformer, std::vector<std::int32_t>{0, 1, 2}, params, {});
}

}  // namespace qtool::test
