// The quantizer on the GPU: the same bytes as bitsandbytes' kernels on CUDA, at
// the speed of memory.
//
// bitsandbytes launches one 32-thread block for 64 values and is bound by
// launches (0.19 TB/s of bf16 input on an H100). Here a lane owns 8 consecutive
// values, the lanes of one absmax block (8 for 64 values) share it by shuffles,
// and a grid of fixed size strides over the tensor. The decision tree becomes a
// branch-free binary search over 16 thresholds in shared memory, one bank each,
// so that no two lanes ever conflict.
#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "core/error.h"
#include "core/quant/codebook.h"
#include "core/quant/dynamic_map.h"
#include "core/quant/quantizer.h"
#include "cuda/device_math.cuh"
#include "cuda/kernels.h"
#include "cuda/raii.h"

namespace qtool::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kPerLane = 8;       // values a lane loads at once: 16 bytes of a 16-bit type
constexpr int kSearchSteps = 16;  // thresholds, padded with +inf to a power of two
constexpr int kMapSize = 256;

constexpr float kLowestAbsmax = -3.402823466e+38f;  // -FLT_MAX: what an all-NaN block keeps

// --- 4-bit blocks

__constant__ float thresholds[2][kSearchSteps];  // by Code4

// Number of thresholds below p. A NaN compares false everywhere: code 0, as in
// bitsandbytes.
__device__ __forceinline__ unsigned count_below16(float p, const float* t) {
  unsigned i = p > t[7] ? 8u : 0u;
  if (p > t[i + 3]) i += 4;
  if (p > t[i + 1]) i += 2;
  if (p > t[i]) i += 1;
  return i;
}

__device__ __forceinline__ unsigned count_below8(float p, const float* t) {
  unsigned i = p > t[3] ? 4u : 0u;
  if (p > t[i + 1]) i += 2;
  if (p > t[i]) i += 1;
  return i;
}

// FP4's codes of the eight magnitude ranks as nibbles, the first in the lowest.
constexpr unsigned kFp4Codes = [] {
  unsigned nibbles = 0;
  for (int rank = 0; rank < 8; ++rank) nibbles |= unsigned{kFp4Codebook.codes[rank]} << (4 * rank);
  return nibbles;
}();

template <Code4 kCode>
__device__ __forceinline__ unsigned scaled_code(float p, const float* t) {
  if constexpr (kCode == Code4::kNf4) return count_below16(p, t);
  const unsigned magnitude = (kFp4Codes >> (4 * count_below8(fabsf(p), t))) & 7u;
  return p < 0.0f ? magnitude | 8u : magnitude;
}

// Eight consecutive values as they lie in memory.
template <typename T>
struct Raw8 {
  Vec<T> parts[kPerLane / Vec<T>::kCount];

  __device__ __forceinline__ float operator[](int i) const {
    return to_float(parts[i / Vec<T>::kCount].values[i % Vec<T>::kCount]);
  }
};

// values[at .. at + 8), zero from n on.
template <typename T>
__device__ __forceinline__ Raw8<T> load8(const T* values, std::int64_t at, std::int64_t n) {
  Raw8<T> raw;
  constexpr int kVec = Vec<T>::kCount;
  if (at + kPerLane <= n) {
#pragma unroll
    for (int v = 0; v < kPerLane / kVec; ++v)
      raw.parts[v] = *reinterpret_cast<const Vec<T>*>(values + at + v * kVec);
  } else {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      raw.parts[i / kVec].values[i % kVec] = at + i < n ? values[at + i] : T(0.0f);
  }
  return raw;
}

template <typename T>
__device__ __forceinline__ float top_of(const Raw8<T>& x, std::int64_t at, std::int64_t n) {
  float top = kLowestAbsmax;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    if (at + i < n) top = max_ftz(top, fabsf(x[i]));
  return top;
}

// The codes of values[at .. at + 8), high nibble first. An odd tensor's last
// nibble is the code of 0.
template <Code4 kCode, typename T>
__device__ __forceinline__ void store8(const Raw8<T>& x, float scale, const float* t, std::int64_t at,
                                       std::int64_t n, std::uint8_t* packed) {
  unsigned word = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    word |= scaled_code<kCode>(mul_ftz(x[i], scale), t) << (8 * (i / 2) + (i % 2 ? 0 : 4));
  if (at + kPerLane <= n) {
    *reinterpret_cast<unsigned*>(packed + at / 2) = word;
  } else {
    for (int byte = 0; at + 2 * byte < n; ++byte)
      packed[at / 2 + byte] = static_cast<std::uint8_t>(word >> (8 * byte));
  }
}

__device__ __forceinline__ float top_of_lanes(float top, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2)
    top = max_ftz(top, __shfl_xor_sync(0xffffffffu, top, offset));
  return top;
}

template <Code4 kCode>
__device__ __forceinline__ void share_thresholds(float (&t)[kSearchSteps]) {
  if (threadIdx.x < kSearchSteps) t[threadIdx.x] = thresholds[static_cast<int>(kCode)][threadIdx.x];
  __syncthreads();
}

// values [n] -> packed [ceil(n / 2)], absmax [ceil(n / kBlock)], blocks of up
// to 256 values: a lane owns 8 values, the lanes of a block share its absmax.
// Every lane has kInFlight loads under way before it uses the first.
template <typename T, Code4 kCode, int kBlock>
__global__ void __launch_bounds__(kThreads)
    block4_kernel(const T* __restrict__ values, std::int64_t n, std::uint8_t* __restrict__ packed,
                  float* __restrict__ absmax) {
  constexpr int kLanes = kBlock / kPerLane;
  constexpr int kInFlight = 4;
  constexpr std::int64_t kSpan = std::int64_t{kThreads} * kPerLane;  // values a thread block takes at a time
  __shared__ float t[kSearchSteps];
  share_thresholds<kCode>(t);

  for (std::int64_t begin = blockIdx.x * kSpan * kInFlight; begin < n;
       begin += gridDim.x * kSpan * kInFlight) {
    const std::int64_t first = begin + static_cast<std::int64_t>(threadIdx.x) * kPerLane;
    Raw8<T> x[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) x[i] = load8(values, first + i * kSpan, n);
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const std::int64_t at = first + i * kSpan;
      const float top = top_of_lanes(top_of(x[i], at, n), kLanes);
      if (at < n && threadIdx.x % kLanes == 0) absmax[at / kBlock] = top;
      store8<kCode>(x[i], reciprocal_ftz(top), t, at, n, packed);
    }
  }
}

// The same for blocks of 512 to 4096 values: a warp owns a block and walks it
// twice, the second time from the cache.
template <typename T, Code4 kCode>
__global__ void __launch_bounds__(kThreads)
    wide_block4_kernel(const T* __restrict__ values, std::int64_t n, int block_size,
                       std::uint8_t* __restrict__ packed, float* __restrict__ absmax) {
  __shared__ float t[kSearchSteps];
  share_thresholds<kCode>(t);
  const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * (kThreads / 32);
  const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (std::int64_t block = warp; block * block_size < n; block += warps) {
    const std::int64_t begin = block * block_size + lane * kPerLane;
    float top = kLowestAbsmax;
    for (int offset = 0; offset < block_size; offset += 32 * kPerLane)
      top = max_ftz(top, top_of(load8(values, begin + offset, n), begin + offset, n));
    top = top_of_lanes(top, 32);
    if (lane == 0) absmax[block] = top;
    const float scale = reciprocal_ftz(top);
    for (int offset = 0; offset < block_size; offset += 32 * kPerLane)
      store8<kCode>(load8(values, begin + offset, n), scale, t, begin + offset, n, packed);
  }
}

// Thread blocks that fill the current device.
std::int64_t most_grid() {
  int device = 0, multiprocessors = 0, threads = 0;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "asking for the device's size");
  check(cudaDeviceGetAttribute(&threads, cudaDevAttrMaxThreadsPerMultiProcessor, device),
        "asking for the device's size");
  return std::int64_t{multiprocessors} * (threads / kThreads);
}

template <typename T, Code4 kCode>
void launch_block4_coded(const Block4Problem& problem, cudaStream_t stream) {
  const std::int64_t spans = (problem.count + kThreads * kPerLane - 1) / (kThreads * kPerLane);
  const auto grid = static_cast<unsigned>(std::min(spans, most_grid()));
  const auto* values = static_cast<const T*>(problem.values);
  const auto narrow = [&](auto block) {
    block4_kernel<T, kCode, decltype(block)::value>
        <<<grid, kThreads, 0, stream>>>(values, problem.count, problem.packed, problem.absmax);
  };
  switch (problem.block_size) {
    case 32:
      narrow(std::integral_constant<int, 32>{});
      break;
    case 64:
      narrow(std::integral_constant<int, 64>{});
      break;
    case 128:
      narrow(std::integral_constant<int, 128>{});
      break;
    case 256:
      narrow(std::integral_constant<int, 256>{});
      break;
    default:
      wide_block4_kernel<T, kCode><<<grid, kThreads, 0, stream>>>(values, problem.count, problem.block_size,
                                                                  problem.packed, problem.absmax);
  }
  check(cudaGetLastError(), "launching the 4-bit quantizer");
}

template <typename T>
void launch_block4_as(const Block4Problem& problem, cudaStream_t stream) {
  if (problem.code == Code4::kNf4)
    launch_block4_coded<T, Code4::kNf4>(problem, stream);
  else
    launch_block4_coded<T, Code4::kFp4>(problem, stream);
}

// --- nested statistics: torch's mean, then 8-bit blocks of 256

// Source: ATen/native/cuda/Reduce.cuh with four accumulators a thread and loads
// of four; the order of the additions decides the last bits, so it is followed
// step by step. The grid is that of an H100 whatever the device.
struct MeanShape {
  bool vectorized;
  int threads;
  int blocks;
};

MeanShape mean_shape(std::int64_t n) {
  constexpr int kMultiprocessors = 132, kThreadsPerMultiprocessor = 2048;
  MeanShape shape{};
  shape.vectorized = n >= 128;
  const std::int64_t width = shape.vectorized ? n / 4 : n;
  shape.threads = 1;
  while (shape.threads < 512 && shape.threads * 2 <= width) shape.threads *= 2;
  const std::int64_t per_thread = (n + shape.threads - 1) / shape.threads;
  shape.blocks = 1;
  if (per_thread >= 256) {
    const std::int64_t target = std::int64_t{kMultiprocessors} * (kThreadsPerMultiprocessor / shape.threads);
    shape.blocks =
        static_cast<int>(std::max(std::min(target, (per_thread + 15) / 16), (per_thread + 255) / 256));
  }
  return shape;
}

__device__ float reduce_block(float value) {
  __shared__ float v[512];
  const unsigned t = threadIdx.x;
  v[t] = value;
  __syncthreads();
  for (unsigned offset = blockDim.x / 2; offset > 0; offset /= 2) {
    if (t < offset) v[t] = __fadd_rn(v[t], v[t + offset]);
    __syncthreads();
  }
  return v[0];
}

__global__ void sum_kernel(const float* __restrict__ x, std::int64_t n, bool vectorized,
                           float* __restrict__ partial) {
  const std::int64_t t = threadIdx.x, width = blockDim.x;
  const std::int64_t step = width * gridDim.x;
  std::int64_t at = t + blockIdx.x * width;
  float a[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  if (vectorized) {
    for (; at * 4 + 3 < n; at += step)
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = __fadd_rn(a[i], x[at * 4 + i]);
    if (blockIdx.x == 0 && n - n % 4 + t < n) a[0] = __fadd_rn(a[0], x[n - n % 4 + t]);
  } else {
    for (; at + 3 * step < n; at += 4 * step)
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = __fadd_rn(a[i], x[at + i * step]);
#pragma unroll
    for (int i = 0; i < 4; ++i, at += step)
      if (at < n) a[i] = __fadd_rn(a[i], x[at]);
  }
  const float total = reduce_block(__fadd_rn(__fadd_rn(__fadd_rn(a[0], a[1]), a[2]), a[3]));
  if (t == 0) partial[blockIdx.x] = total;
}

// One block: the sum of the partial sums times RN(1 / n).
__global__ void mean_kernel(const float* __restrict__ partial, int partials, float inverse_count,
                            float* __restrict__ mean) {
  float total = partial[0];
  if (partials > 1) {
    float v = 0.0f;
    for (int k = static_cast<int>(threadIdx.x); k < partials; k += static_cast<int>(blockDim.x))
      v = __fadd_rn(v, partial[k]);
    total = reduce_block(v);
  }
  if (threadIdx.x == 0) *mean = __fmul_rn(total, inverse_count);
}

// One thread block a statistics block: the code of absmax - mean is the number
// of thresholds below it, scaled.
__global__ void __launch_bounds__(kNestedBlockSize)
    nest_kernel(const float* __restrict__ absmax, std::int64_t n, const float* __restrict__ mean,
                const float* __restrict__ thresholds8, std::uint8_t* __restrict__ codes,
                float* __restrict__ nested_absmax) {
  __shared__ float ends[kMapSize];  // of the codes' intervals; the last is +inf
  __shared__ float tops[kNestedBlockSize / 32];
  const unsigned t = threadIdx.x;
  ends[t] = thresholds8[t];
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kNestedBlockSize + t;
  const float x = at < n ? __fadd_rn(absmax[at], -*mean) : 0.0f;
  float top = at < n ? max_ftz(kLowestAbsmax, fabsf(x)) : kLowestAbsmax;
  for (int offset = 16; offset > 0; offset /= 2)
    top = max_ftz(top, __shfl_xor_sync(0xffffffffu, top, offset));
  if (t % 32 == 0) tops[t / 32] = top;
  __syncthreads();
  for (int warp = 0; warp < kNestedBlockSize / 32; ++warp) top = max_ftz(top, tops[warp]);
  if (t == 0) nested_absmax[blockIdx.x] = top;

  const float p = mul_ftz(x, reciprocal_ftz(top));
  int code = 0;
  for (int step = kMapSize / 2; step > 0; step /= 2)
    if (p > ends[code + step - 1]) code += step;
  if (at < n) codes[at] = static_cast<std::uint8_t>(code);  // a NaN is above nothing: code 0
}

// --- LLM.int8 rows

// One thread block a row, twice over it: the second time it comes from the
// cache.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    int8_kernel(const T* __restrict__ values, std::int64_t columns, std::int8_t* __restrict__ codes,
                float* __restrict__ row_absmax) {
  __shared__ float tops[kThreads / 32];
  const T* row = values + blockIdx.x * columns;
  std::int8_t* out = codes + blockIdx.x * columns;
  const auto half_of = [&](std::int64_t i) { return __half2float(__float2half_rn(to_float(row[i]))); };

  float top = -0.0f;  // -FLT_MIN as a half, bitsandbytes' start value
  for (std::int64_t i = threadIdx.x; i < columns; i += kThreads) top = fmaxf(top, fabsf(half_of(i)));
  for (int offset = 16; offset > 0; offset /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = top;
  __syncthreads();
  for (int warp = 0; warp < kThreads / 32; ++warp) top = fmaxf(top, tops[warp]);
  if (threadIdx.x == 0) row_absmax[blockIdx.x] = top;

  const float scale = __fmul_rn(127.0f, reciprocal_ftz(top));
  for (std::int64_t i = threadIdx.x; i < columns; i += kThreads)
    out[i] = static_cast<std::int8_t>(__float2int_rn(__fmul_rn(half_of(i), scale)));  // NaN becomes 0
}

}  // namespace

void upload_codebooks() {
  float padded[2][kSearchSteps];
  for (const Code4 code : {Code4::kNf4, Code4::kFp4}) {
    const Codebook4& book = codebook(code);
    float* row = padded[static_cast<int>(code)];
    std::fill(row, row + kSearchSteps, INFINITY);
    std::copy(book.thresholds, book.thresholds + book.threshold_count, row);
  }
  check(cudaMemcpyToSymbol(thresholds, padded, sizeof padded), "uploading the codebooks");
}

void launch_block4(const Block4Problem& problem, cudaStream_t stream) {
  switch (problem.dtype) {
    case DType::kF32:
      return launch_block4_as<float>(problem, stream);
    case DType::kF16:
      return launch_block4_as<__half>(problem, stream);
    case DType::kBF16:
      return launch_block4_as<__nv_bfloat16>(problem, stream);
    default:
      throw internal_error("the GPU quantizer was given elements of type " +
                           std::string(info(problem.dtype).name));
  }
}

std::int64_t nest_workspace_floats(std::int64_t count) { return mean_shape(count).blocks + 1; }

void launch_nest(const NestProblem& problem, cudaStream_t stream) {
  const MeanShape shape = mean_shape(problem.count);
  sum_kernel<<<shape.blocks, shape.threads, 0, stream>>>(problem.absmax, problem.count, shape.vectorized,
                                                         problem.workspace);
  mean_kernel<<<1, shape.threads, 0, stream>>>(problem.workspace, shape.blocks,
                                               1.0f / static_cast<float>(problem.count), problem.mean);
  const auto blocks = static_cast<unsigned>((problem.count + kNestedBlockSize - 1) / kNestedBlockSize);
  nest_kernel<<<blocks, kNestedBlockSize, 0, stream>>>(
      problem.absmax, problem.count, problem.mean, problem.thresholds, problem.codes, problem.nested_absmax);
  check(cudaGetLastError(), "launching the nested quantizer");
}

void launch_int8(const Int8Problem& problem, cudaStream_t stream) {
  const auto rows = static_cast<unsigned>(problem.rows);
  switch (problem.dtype) {
    case DType::kF32:
      int8_kernel<<<rows, kThreads, 0, stream>>>(static_cast<const float*>(problem.values), problem.columns,
                                                 problem.codes, problem.row_absmax);
      break;
    case DType::kF16:
      int8_kernel<<<rows, kThreads, 0, stream>>>(static_cast<const __half*>(problem.values), problem.columns,
                                                 problem.codes, problem.row_absmax);
      break;
    case DType::kBF16:
      int8_kernel<<<rows, kThreads, 0, stream>>>(static_cast<const __nv_bfloat16*>(problem.values),
                                                 problem.columns, problem.codes, problem.row_absmax);
      break;
    default:
      throw internal_error("the GPU quantizer was given elements of type " +
                           std::string(info(problem.dtype).name));
  }
  check(cudaGetLastError(), "launching the int8 quantizer");
}

}  // namespace qtool::cuda
