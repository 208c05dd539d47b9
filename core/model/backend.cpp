#include "core/model/backend.h"

#include <algorithm>

namespace qtool {

void Backend::argmax(const Array& x, std::int64_t rows, std::int64_t columns, std::span<std::int32_t> out) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  read(x, rows, values);
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto row = values.begin() + r * columns;
    out[static_cast<std::size_t>(r)] = static_cast<std::int32_t>(std::max_element(row, row + columns) - row);
  }
}

void Backend::norm_linears(const Array& x, const Table& norm, float eps,
                           std::span<const Linear* const> linears, std::int64_t rows, Array& scratch,
                           std::span<Array* const> outs) {
  rms_norm(x, norm, eps, rows, scratch);
  for (std::size_t i = 0; i < linears.size(); ++i) linear(scratch, *linears[i], rows, *outs[i]);
}

void Backend::linear_add(const Array& y, const Linear& weight, std::int64_t rows, Array& scratch, Array& x) {
  linear(y, weight, rows, scratch);
  add(x, scratch, rows);
}

void Backend::gated_linear_add(Array& gate_values, const Array& up, Activation activation,
                               const Linear& weight, std::int64_t rows, Array& scratch, Array& x) {
  gate(gate_values, up, activation, rows);
  linear(gate_values, weight, rows, scratch);
  add(x, scratch, rows);
}

void Backend::run_step(Recordings&, std::span<const Segment>, std::span<const std::int32_t>,
                       const std::function<void()>& body) {
  body();
}

}  // namespace qtool
