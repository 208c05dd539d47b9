// Every CPU backend that this machine has, and arrays for their operations.
#pragma once

#include <catch2/catch.hpp>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/cpu/cpu_backend.h"
#include "core/error.h"
#include "test/core/cpu/support.h"

namespace qtool::test {

using Array = std::unique_ptr<Backend::Array>;

// A backend for every level, chosen as a user would.
inline std::vector<std::unique_ptr<Backend>> backends() {
  std::vector<std::unique_ptr<Backend>> all;
  const char* asked = std::getenv("QTOOL_CPU");
  const std::string before = asked ? asked : "";
  for (const char* level : {"portable", "avx2", "avx512"}) {
    setenv("QTOOL_CPU", level, 1);
    try {
      all.push_back(make_cpu_backend(2));
    } catch (const Error&) {
      WARN("SKIPPED: this machine has no " << level);
    }
  }
  if (asked)
    setenv("QTOOL_CPU", before.c_str(), 1);
  else
    unsetenv("QTOOL_CPU");
  return all;
}

inline Array array_of(Backend& backend, const std::vector<float>& values, std::int64_t rows,
                      std::int64_t cols) {
  const auto table = backend.make_table(tensor_of(values, DType::kF32, {rows, cols}));
  std::vector<std::int32_t> ids;
  for (std::int64_t r = 0; r < rows; ++r) ids.push_back(static_cast<std::int32_t>(r));
  Array array = backend.make_array(rows, cols);
  backend.embed(*table, ids, *array);
  return array;
}

inline std::vector<float> values_of(Backend& backend, const Backend::Array& array, std::int64_t rows,
                                    std::int64_t cols) {
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  backend.read(array, rows, values);
  return values;
}

}  // namespace qtool::test
