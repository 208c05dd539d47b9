// The GPU's own kinds of Backend::Resident.
#pragma once

#include <cstdint>

#include "core/model/backend.h"
#include "cuda/raii.h"

namespace qtool::cuda {

// Pointer and element type of values in device memory.
struct Values {
  void* data = nullptr;
  DType dtype = DType::kF32;
};

// Activations. Memory is there for float32; what an operation writes says which
// type the array holds now: float32 in the residual stream, the type of the
// product behind a linear layer.
struct CudaArray : Backend::Array {
  CudaArray(std::int64_t rows_in, std::int64_t cols_in)
      : memory(Place::kDevice, rows_in * cols_in * 4), rows(rows_in), cols(cols_in) {}
  std::int64_t bytes() const override { return memory.bytes(); }
  Values values() const { return {memory.as<void>(), dtype}; }

  Buffer memory;
  std::int64_t rows;
  std::int64_t cols;
  DType dtype = DType::kF32;
};

struct CudaTable : Backend::Table {
  std::int64_t bytes() const override { return memory.bytes(); }

  Buffer memory;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;  // 1 for a norm's weight
  std::int64_t cols = 0;

  std::int64_t count() const { return rows * cols; }
};

struct CudaRope : Backend::Rope {
  std::int64_t bytes() const override { return cos.bytes() + sin.bytes(); }

  Buffer cos, sin;  // F32 [positions, rotary_dim / 2]
  std::int64_t positions = 0;
  int rotary_dim = 0;
  RopePairs pairs = RopePairs::kHalves;
};

// Keys and values lie head by head: attention reads all positions of one head
// in one run.
struct CudaCache : Backend::Cache {
  std::int64_t bytes() const override { return keys.bytes() + values.bytes(); }

  Buffer keys, values;  // [layers, sequences, kv_heads, positions, head_dim]
  DType dtype = DType::kF32;
  int layers = 0;
  int sequences = 0;
  std::int64_t positions = 0;
  int kv_heads = 0;
  int head_dim = 0;
};

// How a linear layer's weight lies in device memory, and so which kernels take
// it.
enum class WeightForm : std::uint8_t {
  kDense,    // row-major, of a floating-point type
  kInt8,     // row-major codes and row absmax
  kBlock4,   // packed as filed: any shape, any block size
  kTiles4,   // 4-bit tiles with nested 8-bit scales, see tiles4.h
  kTiles4F,  // 4-bit tiles with float32 scales
};

struct CudaLinear : Backend::Linear {
  std::int64_t bytes() const override {
    return codes.bytes() + scales.bytes() + nested.bytes() + map.bytes() + bias.bytes();
  }

  WeightForm form = WeightForm::kDense;
  std::int64_t out = 0;
  std::int64_t in = 0;
  DType compute = DType::kF32;      // operands are rounded to it, results are of it
  DType dense_dtype = DType::kF32;  // of a dense weight's values
  const void* tied = nullptr;       // a tied head's values, owned by the embedding's table
  Buffer codes;                     // dense values, int8 codes, packed nibbles or tiles
  Buffer scales;                    // int8: F32 [out]; 4 bit: by form
  Buffer nested;                    // F32, nested absmax
  Buffer map;                       // F32 [256], nested
  float offset = 0.0f;              // nested
  Code4 code = Code4::kNf4;
  int block_size = 64;
  float threshold = 0.0f;  // int8
  Buffer bias;             // F32 [out], rounded to `compute`; empty for none

  const void* weight() const { return tied ? tied : codes.as<void>(); }
};

}  // namespace qtool::cuda
