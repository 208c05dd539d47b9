#include "core/model/backend.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace qtool {
namespace {

// Where the device's memory is the host's.
struct HostIds final : Backend::Ids {
  explicit HostIds(std::int64_t rows) : values(static_cast<std::size_t>(rows)) {}
  std::int64_t bytes() const override {
    return static_cast<std::int64_t>(values.size() * sizeof(std::int32_t));
  }

  std::vector<std::int32_t> values;
};

}  // namespace

std::unique_ptr<Backend::Ids> Backend::make_ids(std::int64_t rows) { return std::make_unique<HostIds>(rows); }

void Backend::argmax(const Array& x, std::int64_t rows, std::int64_t columns, Ids& out) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  read(x, rows, values);
  auto& ids = static_cast<HostIds&>(out).values;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto row = values.begin() + r * columns;
    const bool finite = std::all_of(
        row, row + columns, [](float value) { return value < std::numeric_limits<float>::infinity(); });
    const auto best = std::max_element(row, row + columns) - row;
    ids.at(static_cast<std::size_t>(r)) = finite ? static_cast<std::int32_t>(best) : -1;
  }
}

void Backend::read_ids(const Ids& ids, std::span<std::int32_t> out) {
  const auto& values = static_cast<const HostIds&>(ids).values;
  if (out.size() > values.size()) throw internal_error("more ids are read than there are");
  std::copy_n(values.begin(), out.size(), out.begin());
}

void Backend::norm_linears(const Array& x, const Norm& how, std::span<const Linear* const> linears,
                           std::int64_t rows, Array& scratch, std::span<Array* const> outs) {
  norm(x, how, rows, scratch);
  for (std::size_t i = 0; i < linears.size(); ++i) linear(scratch, *linears[i], rows, *outs[i]);
}

void Backend::rope_attention(Array& q, Array& k, const Array& v, const Rope* rope, int heads,
                             const AttentionOptions& options, std::span<const Segment> segments, int layer,
                             Cache& cache, Array& out) {
  rope_append(q, k, v, rope, heads, segments, layer, cache);
  attention(q, cache, layer, heads, options, segments, out);
}

void Backend::linear_add(const Array& y, const Linear& weight, float factor, std::int64_t rows,
                         Array& scratch, Array& x) {
  linear(y, weight, rows, scratch);
  add(x, scratch, factor, rows);
}

void Backend::gated_linear_add(Array& gate_values, const Array* up, Activation activation,
                               const Linear& weight, float factor, std::int64_t rows, Array& scratch,
                               Array& x) {
  gate(gate_values, up, activation, rows);
  linear_add(gate_values, weight, factor, rows, scratch, x);
}

void Backend::gated_mlp_add(const GatedMlp& mlp, std::int64_t rows, Array& scratch, Array& gate_values,
                            Array& up, Array& x) {
  const Linear* const linears[] = {&mlp.gate, &mlp.up};
  Array* const outs[] = {&gate_values, &up};
  norm_linears(x, mlp.norm, linears, rows, scratch, outs);
  gated_linear_add(gate_values, &up, mlp.activation, mlp.down, mlp.scale, rows, scratch, x);
}

void Backend::run_step(Recordings&, std::span<const Segment>, std::span<const std::int32_t>,
                       const std::function<void()>& body) {
  body();
}

}  // namespace qtool
