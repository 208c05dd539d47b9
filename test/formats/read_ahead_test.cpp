// A source that several threads may ask gives the model that one thread gets.
#include <algorithm>
#include <catch2/catch.hpp>

#include "core/cpu/cpu_backend.h"
#include "core/model/transformer.h"
#include "core/quant/quantizer.h"
#include "formats/architectures.h"
#include "formats/weights_io.h"
#include "test/support/paths.h"

using namespace qtool;

TEST_CASE("weights read ahead by several threads are those read one after the other") {
  const Checkpoint demo = Checkpoint::open(test::data("demo"));
  const ModelSpec spec = model_spec_of(demo);
  const auto quantizer = make_cpu_quantizer();
  PlanOptions options;
  options.quant = QuantSpec{.method = QuantMethod::kBlock4, .nested = true};
  options.tied_head = spec.tied_head;
  const Plan plan = make_plan(source_tensors(demo), options);
  const std::vector<std::int32_t> ids{1, 20, 300, 41, 5};
  const Segment segment{0, 0, static_cast<std::int64_t>(ids.size())};
  std::vector<float> expected;
  for (const int threads : {1, 2, 4, 100}) {
    const auto backend = make_cpu_backend(1);
    const auto source = make_weight_source(demo, &plan, quantizer.get(), threads);
    constexpr DType kType = DType::kF32;
    Transformer model(spec, *backend, *source, {kType, kType, kType, {1, 8, 8, 8}}, {});
    model.forward({&segment, 1}, ids);
    const std::int64_t last = segment.tokens - 1;
    const std::span<const float> logits = model.logits({&last, 1});
    if (expected.empty()) expected.assign(logits.begin(), logits.end());
    CHECK(std::ranges::equal(logits, expected));
  }
}
