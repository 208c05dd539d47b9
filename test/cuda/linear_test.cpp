// Products on the GPU against products in double precision of the same operands.
//
// Bounds, relative to S = sum of |x * w|: float32 sums lose at most kSum. Weights are rounded to the compute
// type, by at most 2^-8 for bfloat16 and 2^-11 for half (half a unit in the last of 8 and 11 bits), or their
// centroids to half precision. The result is rounded once to the compute type.
#include <algorithm>

#include "core/cpu/cpu_backend.h"
#include "test/cuda/gpu.h"

namespace qtool {
namespace {

using test::copy_of;
using test::floats;
using test::left_out;
using test::random_tensor;

constexpr double kSum = 4e-6;

double unit_of(DType type) { return type == DType::kBF16 ? 0x1p-8 : type == DType::kF16 ? 0x1p-11 : 0x1p-24; }

// An array on `backend` with these values: through an embedding of them.
std::unique_ptr<Backend::Array> array_of(Backend& backend, const Tensor& values) {
  const std::int64_t rows = values.shape()[0];
  const auto table = backend.make_table(copy_of(values));
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
  auto array = backend.make_array(rows, values.shape()[1]);
  backend.embed(*table, ids, *array);
  return array;
}

std::vector<float> product(Backend& backend, Weight weight, const Tensor* bias, DType compute,
                           const Tensor& x) {
  const std::int64_t rows = x.shape()[0], out = shape_of(weight)[0];
  const auto linear =
      backend.make_linear(std::move(weight), bias ? std::optional(copy_of(*bias)) : std::nullopt, compute);
  const auto input = array_of(backend, x);
  const auto output = backend.make_array(rows, out);
  backend.linear(*input, *linear, rows, *output);
  std::vector<float> result(static_cast<std::size_t>(rows * out));
  backend.read(*output, rows, result);
  return result;
}

// Largest error over its bound; below 1 is right.
double worst(const std::vector<float>& y, const Tensor& weight, const Tensor* bias, DType compute,
             const Tensor& x) {
  const auto w = floats(weight), inputs = floats(converted(x.view(), compute));
  const auto biases = bias ? floats(converted(bias->view(), compute)) : std::vector<float>();
  const auto out = static_cast<std::size_t>(weight.shape()[0]),
             in = static_cast<std::size_t>(weight.shape()[1]);
  double most = 0.0;
  for (std::size_t t = 0; t < y.size() / out; ++t)
    for (std::size_t r = 0; r < out; ++r) {
      double sum = bias ? biases[r] : 0.0, size = std::fabs(sum);
      for (std::size_t c = 0; c < in; ++c) {
        const double term = double{w[r * in + c]} * double{inputs[t * in + c]};
        sum += term;
        size += std::fabs(term);
      }
      const double unit = unit_of(compute);
      const double bound = size * (kSum + unit) + std::fabs(sum) * unit + 1e-30;
      const double error = std::fabs(y[t * out + r] - sum) / bound;
      if (!(error <= most)) most = error;  // NaN gets through to the check
    }
  return most;
}

struct Case {
  std::int64_t out, in, tokens;
};

void check_block4(Backend& backend, Code4 code, int block_size, bool nested, DType compute, const Case& size,
                  bool with_bias) {
  if (left_out()) return;
  INFO((code == Code4::kNf4 ? "nf4" : "fp4")
       << " block " << block_size << (nested ? " nested " : " ") << info(compute).name << " " << size.out
       << "x" << size.in << " tokens " << size.tokens << (with_bias ? " bias" : ""));
  const auto seed = static_cast<unsigned>(size.out * 31 + size.in * 7 + size.tokens + block_size);
  const Tensor values = random_tensor(DType::kBF16, {size.out, size.in}, seed, 0.05f);
  const Tensor x = random_tensor(DType::kF32, {size.tokens, size.in}, seed + 1);
  const Tensor bias = random_tensor(DType::kBF16, {size.out}, seed + 2);
  QuantSpec spec;
  spec.method = QuantMethod::kBlock4;
  spec.code = code;
  spec.block_size = block_size;
  spec.nested = nested;
  const auto quantizer = make_cpu_quantizer();
  Weight weight = quantize(*quantizer, values.view(), spec);
  const Tensor exact = dequantize(weight, DType::kF32);
  const auto y = product(backend, std::move(weight), with_bias ? &bias : nullptr, compute, x);
  CHECK(worst(y, exact, with_bias ? &bias : nullptr, compute, x) < 1.0);
}

TEST_CASE("4-bit products: all block sizes, codes and types") {
  SKIP_WITHOUT_GPU();
  const auto backend = make_cuda_backend(0);
  for (const int block_size : {32, 64, 128, 256, 512, 1024, 2048, 4096})
    for (const Code4 code : {Code4::kNf4, Code4::kFp4})
      for (const bool nested : {false, true})
        for (const DType compute : {DType::kBF16, DType::kF16, DType::kF32})
          for (const std::int64_t tokens : {1, 5, 70})
            check_block4(*backend, code, block_size, nested, compute, {48, 1024, tokens}, false);
}

TEST_CASE("4-bit products: shapes with tails, batches of every size") {
  SKIP_WITHOUT_GPU();
  const auto backend = make_cuda_backend(0);
  for (const std::int64_t tokens : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 129, 300, 513})
    check_block4(*backend, Code4::kNf4, 64, true, DType::kBF16, {272, 1408, tokens}, tokens % 2 == 0);
  for (const std::int64_t in : {1, 7, 63, 64, 65, 100, 128, 192, 200, 320, 4096, 11008})
    for (const std::int64_t out : {1, 15, 17, 130})
      for (const std::int64_t tokens : {1, 5, 40})
        check_block4(*backend, Code4::kNf4, 64, true, DType::kBF16, {out, in, tokens}, false);
  check_block4(*backend, Code4::kNf4, 64, true, DType::kBF16, {4100, 4096, 12}, false);
  // Work that thread blocks divide wherever it falls, several of them within the columns of a row.
  for (const std::int64_t tokens : {12, 65})
    check_block4(*backend, Code4::kNf4, 64, true, DType::kBF16, {6016, 1408, tokens}, true);
  // Enough rows for every multiprocessor: another kernel takes these.
  for (const bool nested : {false, true})
    for (const std::int64_t tokens : {1, 2, 8, 9, 17, 32, 33, 65, 128})
      check_block4(*backend, Code4::kNf4, 64, nested, DType::kBF16, {8465, nested ? 384 : 448, tokens},
                   tokens % 2 == 0);
}

TEST_CASE("dense products") {
  SKIP_WITHOUT_GPU();
  const auto backend = make_cuda_backend(0);
  for (const DType stored : {DType::kF32, DType::kF16, DType::kBF16})
    for (const DType compute : {DType::kF32, DType::kF16, DType::kBF16})
      for (const Case& size : {Case{33, 7, 3}, Case{48, 128, 1}, Case{100, 200, 1}, Case{777, 1032, 1},
                               Case{513, 1024, 17}, Case{64, 384, 32}, Case{130, 256, 129}})
        for (const bool with_bias : {false, true}) {
          if (left_out()) continue;
          INFO(info(stored).name << " in " << info(compute).name << " " << size.out << "x" << size.in
                                 << " tokens " << size.tokens);
          const Tensor values = random_tensor(stored, {size.out, size.in}, 5, 0.05f);
          const Tensor x = random_tensor(DType::kF32, {size.tokens, size.in}, 6);
          const Tensor bias = random_tensor(stored, {size.out}, 8);
          const auto y =
              product(*backend, DenseWeight{copy_of(values)}, with_bias ? &bias : nullptr, compute, x);
          CHECK(worst(y, values, with_bias ? &bias : nullptr, compute, x) < 1.0);
        }
}

TEST_CASE("a token's result in a batch of 9 is that in a batch of 32") {
  SKIP_WITHOUT_GPU();
  const auto backend = make_cuda_backend(0);
  const auto quantizer = make_cpu_quantizer();
  const Tensor values = random_tensor(DType::kBF16, {256, 1024}, 3, 0.05f);
  const Tensor x = random_tensor(DType::kF32, {32, 1024}, 4);
  // Fewer tokens have kernels of their own.
  const Tensor nine(DType::kF32, {9, 1024});
  std::memcpy(const_cast<std::byte*>(nine.data()), x.data(), static_cast<std::size_t>(nine.bytes()));
  for (const bool nested : {false, true}) {
    QuantSpec spec;
    spec.method = QuantMethod::kBlock4;
    spec.nested = nested;
    const auto alone =
        product(*backend, quantize(*quantizer, values.view(), spec), nullptr, DType::kBF16, nine);
    const auto many = product(*backend, quantize(*quantizer, values.view(), spec), nullptr, DType::kBF16, x);
    CHECK(std::memcmp(alone.data(), many.data(), alone.size() * 4) == 0);
  }
}

// On a device that can promise it: what 1 token gets alone is what it gets among up to 300, and of a prompt.
TEST_CASE("isolated rows: a token's result is the same in any batch") {
  SKIP_WITHOUT_GPU();
  const auto backend = make_cuda_backend(0);
  if (!backend->isolate_rows()) return;
  const auto quantizer = make_cpu_quantizer();
  constexpr std::int64_t kMost = 300;
  struct Layer {
    QuantMethod method;
    bool nested;
    std::int64_t out, in;
  };
  for (const Layer& layer :
       {Layer{QuantMethod::kBlock4, true, 1100, 1024}, Layer{QuantMethod::kBlock4, false, 144, 4096},
        Layer{QuantMethod::kInt8, false, 130, 512}, Layer{QuantMethod::kNone, false, 130, 512}}) {
    const Tensor values = random_tensor(DType::kBF16, {layer.out, layer.in}, 3, 0.05f);
    const Tensor x = random_tensor(DType::kF32, {kMost, layer.in}, 4, 2.5f);
    QuantSpec spec;
    spec.method = layer.method;
    spec.nested = layer.nested;
    std::vector<float> many;
    for (const std::int64_t tokens :
         {kMost, std::int64_t{130}, std::int64_t{33}, std::int64_t{8}, std::int64_t{3}, std::int64_t{1}}) {
      INFO(layer.out << "x" << layer.in << " tokens " << tokens);
      const Tensor some(DType::kF32, {tokens, layer.in});
      std::memcpy(const_cast<std::byte*>(some.data()), x.data(), static_cast<std::size_t>(some.bytes()));
      Weight weight = layer.method == QuantMethod::kNone ? Weight{DenseWeight{copy_of(values)}}
                                                         : quantize(*quantizer, values.view(), spec);
      const auto y = product(*backend, std::move(weight), nullptr, DType::kBF16, some);
      if (many.empty()) many = y;
      CHECK(std::memcmp(many.data(), y.data(), y.size() * 4) == 0);
    }
  }
}

// The integer part is exact on both sides; outliers are summed in different
// orders before one rounding.
TEST_CASE("LLM.int8 products are those of the CPU") {
  SKIP_WITHOUT_GPU();
  const auto cpu = make_cpu_backend(1);
  const auto gpu = make_cuda_backend(0);
  const auto quantizer = make_cpu_quantizer();
  QuantSpec spec;
  spec.method = QuantMethod::kInt8;
  for (const DType compute : {DType::kF16, DType::kBF16, DType::kF32})
    for (const Case& size : {Case{17, 40, 1}, Case{33, 64, 3}, Case{64, 512, 1}, Case{333, 1040, 1},
                             Case{130, 1024, 9}, Case{96, 256, 40}, Case{96, 256, 129}, Case{100, 1000, 70},
                             Case{136, 1040, 33}, Case{2056, 384, 65}, Case{520, 272, 300}})
      for (const float spread : {0.5f, 1.5f, 3.0f}) {  // no, a few and many values beyond the threshold of 6
        if (left_out()) continue;
        INFO(info(compute).name << " " << size.out << "x" << size.in << " tokens " << size.tokens
                                << " spread " << spread);
        const Tensor values = random_tensor(DType::kF16, {size.out, size.in}, 11, 0.05f);
        const Tensor x = random_tensor(DType::kF32, {size.tokens, size.in}, 12, spread);
        const Tensor bias = random_tensor(DType::kF16, {size.out}, 13);
        const auto expected = product(*cpu, quantize(*quantizer, values.view(), spec), &bias, compute, x);
        const auto y = product(*gpu, quantize(*quantizer, values.view(), spec), &bias, compute, x);
        double most = 0.0;
        for (std::size_t i = 0; i < y.size(); ++i) {
          const double bound =
              std::max(std::fabs(double{expected[i]}), 1e-3) * 4 * unit_of(compute) + 1e-5 * spread;
          most = std::max(most, std::fabs(double{y[i]} - double{expected[i]}) / bound);
          if (spread < 1.0f && y[i] != expected[i]) most = 1e9;
        }
        CHECK(most < 1.0);
      }
}

// Layers that share a launch, and a residual that takes the results, against one layer after the other.
TEST_CASE("LLM.int8 with many tokens: groups of layers, residuals") {
  SKIP_WITHOUT_GPU();
  const auto backend = make_cuda_backend(0);
  const auto quantizer = make_cpu_quantizer();
  QuantSpec spec;
  spec.method = QuantMethod::kInt8;
  constexpr std::int64_t kIn = 528, kOuts[] = {520, 264, 8};
  for (const DType compute : {DType::kF16, DType::kBF16})
    for (const std::int64_t tokens : {33, 200, 513})
      for (const float spread : {1.0f, 3.0f}) {
        if (left_out()) continue;
        INFO(info(compute).name << " tokens " << tokens << " spread " << spread);
        std::vector<std::unique_ptr<Backend::Linear>> layers;
        std::vector<std::unique_ptr<Backend::Array>> arrays;  // of the group, then of its layers alone
        std::vector<const Backend::Linear*> linears;
        std::vector<Backend::Array*> outs[2];
        for (const std::int64_t out : kOuts) {
          const Tensor values = random_tensor(DType::kF16, {out, kIn}, static_cast<unsigned>(out), 0.05f);
          layers.push_back(
              backend->make_linear(quantize(*quantizer, values.view(), spec), std::nullopt, compute));
          linears.push_back(layers.back().get());
          for (auto& side : outs) {
            arrays.push_back(backend->make_array(tokens, out));
            side.push_back(arrays.back().get());
          }
        }
        const auto weight = backend->make_table(random_tensor(DType::kF32, {1, kIn}, 20, spread));
        const auto x = array_of(*backend, random_tensor(DType::kF32, {tokens, kIn}, 21));
        const auto scratch = backend->make_array(tokens, kIn);
        const Backend::Norm norm{NormKind::kRms, 1e-5f, weight.get()};
        const auto values_of = [&](const Backend::Array& array, std::int64_t cols) {
          std::vector<float> values(static_cast<std::size_t>(tokens * cols));
          backend->read(array, tokens, values);
          return values;
        };
        backend->norm_linears(*x, norm, linears, tokens, *scratch, outs[0]);
        backend->Backend::norm_linears(*x, norm, linears, tokens, *scratch, outs[1]);
        for (std::size_t i = 0; i < linears.size(); ++i)
          CHECK(values_of(*outs[0][i], kOuts[i]) == values_of(*outs[1][i], kOuts[i]));

        const Tensor before = random_tensor(DType::kF32, {tokens, kOuts[0]}, 22);
        const auto fused = array_of(*backend, before), plain = array_of(*backend, before);
        backend->linear_add(*x, *linears[0], 1.0f, tokens, *outs[0][0], *fused);
        backend->Backend::linear_add(*x, *linears[0], 1.0f, tokens, *outs[1][0], *plain);
        CHECK(values_of(*fused, kOuts[0]) == values_of(*plain, kOuts[0]));
      }
}

}  // namespace
}  // namespace qtool
