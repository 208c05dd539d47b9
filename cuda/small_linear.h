// Products with few tokens: every weight is read once, at the speed of memory,
// whatever its form.
//
//   y[t][r] = sum over c of weight[r][c] * x[t][c]
//
// One kernel family for 4-bit tiles, LLM.int8 rows and dense 16-bit rows. Up to
// three matrices that share their input (query, key, value; gate, up) run as
// one launch.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/residents.h"

namespace qtool::cuda {

inline constexpr int kSmallTokens = 32;   // of one pass, unless batch4.h takes more
inline constexpr int kUnitColumns = 128;  // columns of one step: inputs are padded to a multiple with zeros
inline constexpr int kTileRows = 16;

struct SmallPart {
  const void* weight = nullptr;
  const void* scales = nullptr;  // tiles: see tiles4.h; int8: F32 row absmax
  const float* nested = nullptr;
  const float* bias = nullptr;  // F32 [out]
  float offset = 0.0f;          // nested
  int out = 0;
  int row_tiles = 0;  // ceil(out / 16)
  void* y = nullptr;  // [tokens, out] of `type`
};

struct SmallProblem {
  SmallPart parts[3];
  int part_count = 1;
  int columns = 0;             // of a weight row
  int units = 0;               // ceil(columns / kUnitColumns)
  int nested_shift = 0;        // index of a nested absmax = (row * units + unit) >> nested_shift
  const float* map = nullptr;  // F32 [256], nested
  Code4 code = Code4::kNf4;
  const void* x = nullptr;          // [tokens, x_stride]: half for tiles, int8 codes, or
                                    // the dense weight's type
  std::int64_t x_stride = 0;        // elements
  const float* x_scales = nullptr;  // [tokens]: tiles and int8
  int tokens = 0;                   // 1 .. those of one pass
  DType type = DType::kBF16;        // of y
  float* residual = nullptr;        // [tokens, out]: gets y added instead of y being
                                    // stored; one part only
  // int8: outlier columns, see int8_linear.h
  const int* outlier_count = nullptr;
  const int* outlier_columns = nullptr;
  const void* outlier_x = nullptr;  // [tokens, columns] of `type`
  int multiprocessors = 0;
  bool clusters = false;    // of thread blocks: the device has them
  int prefetch_groups = 0;  // set by the launcher
};

// Whether `linear` is of a form and shape that the kernels take on a device of
// `capability` (10 * major + minor).
bool takes_small(const CudaLinear& linear, int capability);

// Fills in the weight's side of a part.
SmallPart small_part(const CudaLinear& linear);

// Tokens [first, first + count) of `whole`, whose inputs lie `x_bytes` apart.
SmallProblem pass_of(const SmallProblem& whole, std::int64_t first, std::int64_t count, std::int64_t x_bytes);

// Once per device.
void prepare_small_kernels();
// All parts are of the form of `form`; dense: of type `dense`.
void launch_small(const SmallProblem& problem, WeightForm form, DType dense, cudaStream_t stream);

// By form, each in a file of its own so that they compile side by side.
void launch_small4(const SmallProblem& problem, bool nested, cudaStream_t stream);
void launch_small8(const SmallProblem& problem, cudaStream_t stream);
void launch_small16(const SmallProblem& problem, DType dense, cudaStream_t stream);

}  // namespace qtool::cuda
