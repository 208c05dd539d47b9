// LLM.int8 layers against a step by step model of bitsandbytes' arithmetic.
#include <catch2/catch.hpp>
#include <set>

#include "core/quant/reciprocal.h"
#include "test/core/cpu/support.h"

namespace qtool {
namespace {

using namespace test;

float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }

struct Model {
  std::vector<float> integer_part;  // [tokens, out], in the layer's type
  std::vector<Exact> outlier_part;  // [tokens, out]; tolerance 0 without outliers
};

Model model_of(const cpu::CpuLinear& layer, const std::vector<float>& x, std::int64_t tokens) {
  const auto& weight = std::get<Int8Weight>(layer.weight);
  const auto codes = weight.codes.as<std::int8_t>();
  const auto absmax = weight.row_absmax.as<float>();
  const auto at = [&](std::int64_t t, std::int64_t k) {
    return rounded(x[static_cast<std::size_t>(t * layer.in + k)], layer.compute);
  };
  const auto is_outlier = [&](float value) {
    return weight.threshold > 0.0f && std::fabs(round_to_f16(value)) >= weight.threshold;
  };
  std::set<std::int64_t> columns;
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t k = 0; k < layer.in; ++k)
      if (is_outlier(at(t, k))) columns.insert(k);

  Model model;
  for (std::int64_t t = 0; t < tokens; ++t) {
    float token_absmax = 0.0f;
    for (std::int64_t k = 0; k < layer.in; ++k)
      if (!is_outlier(at(t, k))) token_absmax = std::fmax(token_absmax, std::fabs(round_to_f16(at(t, k))));
    const float scale = 127.0f * approximate_reciprocal(token_absmax);
    std::vector<int> token_codes;
    for (std::int64_t k = 0; k < layer.in; ++k) {
      const bool counts = token_absmax > 0.0f && !columns.contains(k);
      token_codes.push_back(counts ? static_cast<int>(std::nearbyint(round_to_f16(at(t, k)) * scale)) : 0);
    }
    for (std::int64_t r = 0; r < layer.out; ++r) {
      std::int64_t sum = 0;
      Exact outliers{0.0, 0.0};
      for (std::int64_t k = 0; k < layer.in; ++k) {
        const int code = codes[static_cast<std::size_t>(r * layer.in + k)];
        sum += code * token_codes[static_cast<std::size_t>(k)];
      }
      for (const std::int64_t k : columns) {
        const int code = codes[static_cast<std::size_t>(r * layer.in + k)];
        const float value =
            static_cast<float>(code) * absmax[static_cast<std::size_t>(r)] * from_bits(0x3c010204);
        const double product = double{at(t, k)} * double{rounded(value, layer.compute)};
        outliers.value += product;
        outliers.tolerance += std::fabs(product) * 32 * 0x1p-24;
      }
      const float scaled = static_cast<float>(sum) * token_absmax * absmax[static_cast<std::size_t>(r)];
      float bias = 0.0f;
      if (layer.bias) {
        to_float32(layer.bias->data() + r * size_of(layer.bias->dtype()), layer.bias->dtype(), 1, &bias);
        bias = rounded(bias, layer.compute);
      }
      const bool fused = layer.compute == DType::kF16;
      float value = round_to_f16(std::fma(scaled, from_bits(0x38820610), fused ? bias : 0.0f));
      if (layer.bias && !fused) value = round_to_f16(value + bias);
      model.integer_part.push_back(rounded(value, layer.compute));
      model.outlier_part.push_back(outliers);
    }
  }
  return model;
}

TEST_CASE("LLM.int8 layers follow bitsandbytes' arithmetic") {
  for (const Shape& shape : {Shape{5, 64}, Shape{33, 97}, Shape{7, 1}, Shape{70, 200}}) {
    for (const DType compute : {DType::kF16, DType::kBF16, DType::kF32}) {
      for (const float threshold : {0.0f, 6.0f}) {
        for (const bool with_bias : {false, true}) {
          QuantSpec spec;
          spec.method = QuantMethod::kInt8;
          spec.int8_threshold = threshold;
          std::optional<Tensor> bias;
          if (with_bias) bias = tensor_of(Values(4).many(shape[0]), DType::kBF16, {shape[0]});
          const cpu::CpuLinear layer = layer_of(random_weight(shape, spec, 8), std::move(bias), compute);
          for (const std::int64_t tokens : {1, 2, 5, 9, 33}) {
            std::vector<float> x = Values(5).many(tokens * layer.in, 2.0f);
            for (std::size_t i = 3; i < x.size(); i += 131) x[i] *= 20.0f;      // some columns with outliers
            if (tokens > 1) std::fill_n(x.begin() + layer.in, layer.in, 0.0f);  // a token of zeros
            const Model model = model_of(layer, x, tokens);
            for (const cpu::CpuKernels& kernels : cpu::available_kernels()) {
              std::vector<float> out(static_cast<std::size_t>(tokens * layer.out));
              cpu::LinearRunner(kernels.functions, 2).run(layer, x.data(), tokens, out.data());
              int wrong = 0;
              for (std::size_t i = 0; i < out.size(); ++i) {
                Exact sum = model.outlier_part[i];
                sum.value += model.integer_part[i];
                if (sum.tolerance > 0.0) sum.tolerance += std::fabs(sum.value) * 0x1p-23;
                wrong += agrees(out[i], sum, compute) ? 0 : 1;
              }
              INFO("kernels " << kernels.name << ", [" << shape[0] << ", " << shape[1] << "], " << tokens
                              << " tokens, " << info(compute).name << ", threshold " << threshold << ", bias "
                              << with_bias);
              CHECK(wrong == 0);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("the largest sums of 8-bit products are exact") {
  constexpr std::int64_t kCount = 131072;
  const std::vector<std::int8_t> w(kCount, -128);
  const std::vector<std::int8_t> x(kCount, 127);
  for (const cpu::CpuKernels& kernels : cpu::available_kernels()) {
    std::int32_t sum = 0;
    kernels.functions.dot8(w.data(), 1, x.data(), 1, kCount, &sum, 1);
    INFO("kernels " << kernels.name);
    CHECK(sum == -128 * 127 * kCount);
  }
}

}  // namespace
}  // namespace qtool
