// The CPU's own kinds of Backend::Resident: plain host memory.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "core/model/backend.h"
#include "core/quant/weight.h"
#include "core/tensor.h"

namespace qtool::cpu {

struct CpuArray : Backend::Array {
  CpuArray(Tensor values_in, std::int64_t cols_in) : values(std::move(values_in)), cols(cols_in) {}
  std::int64_t bytes() const override { return values.bytes(); }
  float* row(std::int64_t index) { return values.as<float>().data() + index * cols; }
  const float* row(std::int64_t index) const { return values.as<float>().data() + index * cols; }

  Tensor values;  // F32 [rows, cols]
  std::int64_t cols;
};

// The weight stays in the pieces of the checkpoint: no second copy, dequantized or reordered, is ever made.
struct CpuLinear : Backend::Linear {
  std::int64_t bytes() const override { return (tied ? 0 : bytes_of(weight)) + (bias ? bias->bytes() : 0); }

  Weight weight;                 // [out, in]; empty for a tied head
  const Tensor* tied = nullptr;  // [out, in], owned by the embedding's table
  std::optional<Tensor> bias;    // [out], as stored
  DType compute = DType::kF32;   // F32, F16 or BF16
  std::int64_t out = 0;
  std::int64_t in = 0;
};

struct CpuTable : Backend::Table {
  std::int64_t bytes() const override { return values.bytes(); }

  Tensor values;  // F32, F16 or BF16 [vocab, hidden], [hidden] or [heads]
};

struct CpuRope : Backend::Rope {
  std::int64_t bytes() const override { return cos.bytes() + sin.bytes(); }

  Tensor cos, sin;  // F32 [positions, rotary_dim / 2]
  std::int64_t positions = 0;
  int rotary_dim = 0;
  RopePairs pairs = RopePairs::kHalves;
};

// Keys and values lie head by head: attention reads all positions of one head in one run.
struct CpuCache : Backend::Cache {
  std::int64_t bytes() const override { return keys.bytes() + values.bytes(); }
  // Index of the first element of position `position`.
  std::int64_t offset(int layer, int sequence, int kv_head, std::int64_t position) const {
    return (((std::int64_t{layer} * sequences + sequence) * kv_heads + kv_head) * positions + position) *
           head_dim;
  }

  Tensor keys, values;  // F32, F16 or BF16 [layers, sequences, kv_heads, positions, head_dim]
  int layers = 0;
  int sequences = 0;
  std::int64_t positions = 0;
  int kv_heads = 0;
  int head_dim = 0;
};

}  // namespace qtool::cpu
