// Reference logits, and how far ours are from them.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/model/logprobs.h"
#include "formats/safetensors.h"

namespace qtool::test {

// The tensors of a .safetensors file whose elements are `Element`s (F32, I64); others are left out.
template <typename Element = float>
std::map<std::string, std::vector<Element>> read_reference(const std::string& path) {
  const DType wanted = std::is_same_v<Element, float> ? DType::kF32 : DType::kI64;
  const InputFile file(path);
  std::map<std::string, std::vector<Element>> tensors;
  for (const TensorInfo& tensor : read_safetensors_header(file).tensors) {
    if (tensor.dtype != wanted) continue;
    auto& values = tensors[tensor.name];
    values.resize(static_cast<std::size_t>(tensor.bytes) / sizeof(Element));
    file.read_at(tensor.begin, std::as_writable_bytes(std::span(values)));
  }
  return tensors;
}

// The largest distance between the log-probabilities of two rows of logits.
inline double logprob_distance(std::span<const float> found, std::span<const float> expected) {
  REQUIRE(found.size() == expected.size());
  const double a = log_sum_exp(found), b = log_sum_exp(expected);
  double worst = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i)
    worst = std::max(worst,
                     std::abs((static_cast<double>(found[i]) - a) - (static_cast<double>(expected[i]) - b)));
  return worst;
}

// The same of rows of `vocab` logits each.
inline double worst_row(std::span<const float> found, std::span<const float> expected, std::size_t vocab) {
  REQUIRE(found.size() == expected.size());
  double worst = 0.0;
  for (std::size_t at = 0; at < found.size(); at += vocab)
    worst = std::max(worst, logprob_distance(found.subspan(at, vocab), expected.subspan(at, vocab)));
  return worst;
}

}  // namespace qtool::test
