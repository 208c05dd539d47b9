// The small operations against the CPU's, on the same inputs.
#include <functional>
#include <limits>

#include "test/cuda/sides.h"

namespace qtool {
namespace {

using test::copy_of;
using test::distance;
using test::left_out;
using test::random_tensor;
using test::Side;
using test::Sides;
using test::tolerance;

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

// What `compute` gives on either side is the same but for `bound`.
void agree(const Sides& sides, double bound, const std::function<std::vector<float>(const Side&)>& compute) {
  const auto expected = compute(sides.cpu), found = compute(sides.gpu);
  REQUIRE(found.size() == expected.size());
  CHECK(distance(found, expected) <= bound);
}

TEST_CASE("norms are the CPU's: kinds, tables, widths, types") {
  SKIP_WITHOUT_GPU();
  const Sides sides;
  for (const Shape& shape : {Shape{1, 8}, Shape{3, 100}, Shape{70, 36}, Shape{5, 4096}, Shape{3, 520},
                             Shape{2, 9000}, Shape{2, 1001}})
    for (const NormKind kind : {NormKind::kRms, NormKind::kLayer})
      for (const DType type : kTypes)
        for (const int tables : {0, 1, 2}) {
          if (left_out()) continue;
          INFO(shape[0] << "x" << shape[1] << " of " << info(type).name << ", " << tables << " tables, kind "
                        << static_cast<int>(kind));
          // A mean far from 0 is what two passes are for.
          const Tensor offset = random_tensor(DType::kF32, shape, 1);
          Tensor x = copy_of(offset);
          for (float& value : x.as<float>()) value += kind == NormKind::kLayer ? 8.0f : 0.0f;
          const Tensor weight = random_tensor(tables == 1 ? DType::kF32 : DType::kBF16, {shape[1]}, 2),
                       bias = random_tensor(DType::kF16, {shape[1]}, 3);
          agree(sides, tolerance(type), [&](const Side& side) {
            const auto weights = side.backend->make_table(copy_of(weight)),
                       biases = side.backend->make_table(copy_of(bias));
            const Backend::Norm norm{kind, 1e-5f, tables > 0 ? weights.get() : nullptr,
                                     tables > 0 ? 1.0f : 0.0f, tables > 1 ? biases.get() : nullptr};
            const auto in = type == DType::kF32 || shape[1] > 600 ? side.array(x) : side.typed(x, type);
            side.backend->norm(*in, norm, shape[0], *in);
            return side.read(*in, shape[0], shape[1]);
          });
        }
}

TEST_CASE("norms of pieces are the CPU's") {
  SKIP_WITHOUT_GPU();
  const Sides sides;
  for (const NormKind kind : {NormKind::kRms, NormKind::kLayer})
    for (const DType type : kTypes)
      for (const bool own : {false, true})
        for (const int dim : {8, 12, 80, 128, 600}) {
          constexpr int kRows = 5, kGroups = 3;
          if (left_out()) continue;
          INFO(info(type).name << " pieces of " << dim << (own ? " with weights of their own" : ""));
          const Tensor x = random_tensor(DType::kF32, {kRows, kGroups * dim}, 1),
                       weight = random_tensor(DType::kBF16, {own ? kGroups * dim : dim}, 2);
          agree(sides, tolerance(type), [&](const Side& side) {
            const auto table = side.backend->make_table(copy_of(weight));
            const auto in = side.typed(x, type);
            side.backend->norm_groups(*in, {kind, 1e-6f, table.get(), 0.0f, nullptr}, kGroups, kRows);
            return side.read(*in, kRows, kGroups * dim);
          });
        }
}

TEST_CASE("element by element: gate, add, scale, clamp, softcap, clear") {
  SKIP_WITHOUT_GPU();
  const Sides sides;
  for (const DType type : kTypes)
    for (const Shape& shape : {Shape{1, 7}, Shape{3, 100}, Shape{4, 515}}) {
      INFO(info(type).name << " " << shape[0] << "x" << shape[1]);
      const Tensor x = random_tensor(DType::kF32, shape, 1, 2.0f), y = random_tensor(DType::kF32, shape, 2);
      for (const Activation activation : {Activation::kSilu, Activation::kGeluErf, Activation::kGeluTanh,
                                          Activation::kRelu, Activation::kRelu2, Activation::kQuickGelu})
        for (const bool gated : {true, false}) {
          if (left_out()) continue;
          INFO("activation " << static_cast<int>(activation) << (gated ? " gated" : ""));
          agree(sides, tolerance(type), [&](const Side& side) {
            const auto gate = side.typed(x, type), up = side.typed(y, type);
            side.backend->gate(*gate, gated ? up.get() : nullptr, activation, shape[0]);
            return side.read(*gate, shape[0], shape[1]);
          });
        }
      agree(sides, tolerance(type), [&](const Side& side) {
        const auto sum = side.array(x), more = side.typed(y, type);
        side.backend->add(*sum, *more, 0.22f, shape[0]);
        side.backend->add(*sum, *more, 1.0f, shape[0]);
        return side.read(*sum, shape[0], shape[1]);
      });
      agree(sides, 2 * tolerance(type), [&](const Side& side) {
        const auto values = side.typed(x, type);
        side.backend->scale(*values, 3.7f, shape[0]);
        side.backend->clamp(*values, 6.0f, shape[0]);
        side.backend->softcap(*values, 5.0f, shape[0]);
        return side.read(*values, shape[0], shape[1]);
      });
      // A 16-bit product may begin a residual stream, which is float32.
      agree(sides, tolerance(type), [&](const Side& side) {
        const auto values = side.typed(x, type), zeros = side.typed(x, type);
        side.backend->add(*values, *side.array(y), 1e-3f, shape[0]);
        side.backend->clear(*zeros, shape[0]);
        side.backend->add(*values, *zeros, 1.0f, shape[0]);
        return side.read(*values, shape[0], shape[1]);
      });
    }
  const auto nan = sides.gpu.array([] {
    Tensor values(DType::kF32, {1, 2});
    values.as<float>()[0] = std::numeric_limits<float>::quiet_NaN();
    values.as<float>()[1] = -9.0f;
    return values;
  }());
  sides.gpu.backend->clamp(*nan, 1.0f, 1);
  const auto clamped = sides.gpu.read(*nan, 1, 2);
  CHECK(std::isnan(clamped[0]));
  CHECK(clamped[1] == -1.0f);
}

TEST_CASE("rows: embed, positions, split, gather, scatter") {
  SKIP_WITHOUT_GPU();
  const Sides sides;
  for (const DType type : kTypes)
    for (const std::int64_t cols : {7, 24, 128}) {
      INFO(info(type).name << " columns " << cols);
      const Tensor x = random_tensor(DType::kF32, {6, cols}, 1), table = random_tensor(type, {20, cols}, 2);
      const std::vector<Segment> segments{{0, 3, 2}, {1, 0, 1}, {4, 11, 3}};
      agree(sides, 1e-6, [&](const Side& side) {
        const auto in = side.array(x);
        const auto positions = side.backend->make_table(copy_of(table));
        side.backend->add_positions(*in, *positions, 2, segments);
        return side.read(*in, 6, cols);
      });
      for (const int groups : {1, 3}) {
        const Tensor wide = random_tensor(DType::kF32, {6, 3 * groups * cols}, 3);
        agree(sides, 0.0, [&](const Side& side) {
          const auto fused = side.typed(wide, type);
          const auto a = side.backend->make_array(6, groups * cols),
                     b = side.backend->make_array(6, 2 * groups * cols);
          Backend::Array* outs[] = {a.get(), b.get()};
          side.backend->split(*fused, groups, 6, outs);
          auto all = side.read(*a, 6, groups * cols);
          const auto rest = side.read(*b, 6, 2 * groups * cols);
          all.insert(all.end(), rest.begin(), rest.end());
          return all;
        });
      }
      const std::vector<std::int64_t> rows{5, 0, 3};
      const std::vector<float> weights{0.5f, -2.0f, 0.1f};
      agree(sides, 1e-6, [&](const Side& side) {
        const auto in = side.typed(x, type), sum = side.array(x);
        const auto picked = side.backend->make_array(3, cols);
        side.backend->gather(*in, rows, *picked);
        side.backend->scatter_add(*picked, rows, weights, *sum);
        side.backend->scatter_add(*picked, std::vector<std::int64_t>{1}, std::vector<float>{3.0f}, *sum);
        return side.read(*sum, 6, cols);
      });
    }
}

TEST_CASE("blocks are their operations, whatever the norm, scale and gate") {
  SKIP_WITHOUT_GPU();
  const Sides sides;
  const Tensor x = random_tensor(DType::kF32, {3, 128}, 1),
               norm_weight = random_tensor(DType::kBF16, {128}, 2),
               first = random_tensor(DType::kBF16, {256, 128}, 3, 0.1f),
               second = random_tensor(DType::kBF16, {128, 256}, 4, 0.1f);
  for (const bool packed : {false, true})
    for (const std::int64_t rows : {1, 3})
      for (const NormKind kind : {NormKind::kRms, NormKind::kLayer})
        for (const float scale : {1.0f, 0.22f})
          for (const bool gated : {true, false})
            for (const DType type : {DType::kF32, DType::kBF16}) {
              if (left_out()) continue;
              INFO((packed ? "packed " : "dense ")
                   << rows << " rows, kind " << static_cast<int>(kind) << ", scale " << scale
                   << (gated ? ", gated " : " ") << info(type).name);
              agree(sides, type == DType::kF32 ? 4e-6 : 1.6e-2, [&](const Side& side) {
                Backend& backend = *side.backend;
                const auto weight_of = [&](const Tensor& values) -> Weight {
                  if (!packed) return DenseWeight{copy_of(values)};
                  QuantSpec spec;
                  spec.method = QuantMethod::kBlock4;
                  spec.nested = true;
                  return quantize(*make_cpu_quantizer(), values.view(), spec);
                };
                const auto a = backend.make_linear(weight_of(first), std::nullopt, type),
                           b = backend.make_linear(weight_of(second), std::nullopt, type);
                const auto table = backend.make_table(copy_of(norm_weight));
                const auto stream = side.array(x);
                const auto scratch = backend.make_array(3, 128), gate = backend.make_array(3, 256),
                           up = backend.make_array(3, 256);
                const Backend::Norm norm{kind, 1e-5f, table.get(), 1.0f, nullptr};
                const Backend::Linear* linears[] = {a.get(), a.get()};
                Backend::Array* outs[] = {gate.get(), up.get()};
                backend.norm_linears(*stream, norm, linears, rows, *scratch, outs);
                backend.gated_linear_add(*gate, gated ? up.get() : nullptr, Activation::kGeluTanh, *b, scale,
                                         rows, *scratch, *stream);
                backend.linear(*stream, *a, rows, *gate);
                backend.linear_add(*gate, *b, scale, rows, *scratch, *stream);
                return side.read(*stream, rows, 128);
              });
            }
}

TEST_CASE("a gated MLP is its operations: any number of tokens") {
  SKIP_WITHOUT_GPU();
  const Sides sides;
  for (const std::int64_t wide : {64, 2112, 5056, 7168})  // fewer and more row tiles than multiprocessors
    for (const std::int64_t rows : {1, 2, 8, 40})
      for (const Code4 code : {Code4::kNf4, Code4::kFp4})
        for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh})
          for (const DType type : {DType::kF16, DType::kBF16}) {
            if (left_out()) continue;
            INFO(wide << " columns, " << rows << " rows, " << info(type).name);
            QuantSpec spec;
            spec.method = QuantMethod::kBlock4;
            spec.code = code;
            spec.nested = code == Code4::kNf4;
            const auto quantizer = make_cpu_quantizer();
            const auto linear_of = [&](const Side& side, Shape shape, unsigned seed) {
              const Tensor values = random_tensor(DType::kBF16, std::move(shape), seed, 0.1f);
              return side.backend->make_linear(quantize(*quantizer, values.view(), spec), std::nullopt, type);
            };
            const Tensor x = random_tensor(DType::kF32, {40, 192}, 1),
                         weight = random_tensor(DType::kBF16, {192}, 2);
            agree(sides, 1.6e-2, [&](const Side& side) {
              const auto gate = linear_of(side, {wide, 192}, 3), up = linear_of(side, {wide, 192}, 4),
                         down = linear_of(side, {192, wide}, 5);
              const auto table = side.backend->make_table(copy_of(weight));
              const auto stream = side.array(x), scratch = side.backend->make_array(40, 192),
                         gate_out = side.backend->make_array(40, wide),
                         up_out = side.backend->make_array(40, wide);
              side.backend->gated_mlp_add(
                  {{NormKind::kRms, 1e-5f, table.get(), 0.0f, nullptr}, *gate, *up, *down, activation, 1.0f},
                  rows, *scratch, *gate_out, *up_out, *stream);
              return side.read(*stream, rows, 192);
            });
          }
}

}  // namespace
}  // namespace qtool
