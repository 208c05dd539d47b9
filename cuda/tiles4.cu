#include <bit>

#include "core/error.h"
#include "cuda/dispatch.h"
#include "cuda/launch.cuh"
#include "cuda/packed4.cuh"
#include "cuda/small_linear.h"
#include "cuda/tiles4.h"

namespace qtool::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxTileColumns =
    98304;  // a token's inputs wait in one multiprocessor's shared memory

std::int64_t tiles_of(const CudaLinear& linear) { return ceil_div(linear.out, kTileRows); }
std::int64_t units_of(const CudaLinear& linear) { return ceil_div(linear.in, kUnitColumns); }

// A thread moves one lane's 16 bytes of one tile: four runs of 8 codes that lie
// together in the file too.
__global__ void tile_codes_kernel(const std::uint8_t* packed, std::int64_t out, std::int64_t in,
                                  std::int64_t count, uint4* tiles) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= count) return;
  const std::int64_t blocks = ceil_div(in, kUnitColumns) * 2;  // of 64 columns
  const int lane = static_cast<int>(index % 32);
  const std::int64_t column = index / 32 % blocks * 64 + lane % 4 * 8,
                     row = index / 32 / blocks * kTileRows + lane / 4;
  const auto run = [&](std::int64_t r, std::int64_t c) -> unsigned {
    if (r >= out || c >= in) return 0;
    return *reinterpret_cast<const unsigned*>(packed + (r * in + c) / 2);
  };
  tiles[index] = {run(row, column), run(row, column + 32), run(row + 8, column), run(row + 8, column + 32)};
}

// T is uint8_t for nested codes, float for scales.
template <typename T>
__global__ void tile_scales_kernel(const __grid_constant__ Packed4 packed, std::int64_t out, std::int64_t in,
                                   std::int64_t count, T* scales) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= count) return;
  const std::int64_t units = ceil_div(in, kUnitColumns);
  const std::int64_t unit = index / 8 % units, row = index / 8 / units * kTileRows + index % 8;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::int64_t r = row + i / 2 * 8, c = unit * kUnitColumns + i % 2 * 64;
    T value{};
    if (r < out && c < in) {
      const std::int64_t block = (r * in + c) / packed.block_size;
      if constexpr (sizeof(T) == 1)
        value = static_cast<const std::uint8_t*>(packed.scales)[block];
      else
        value = packed.scale(block);
    }
    scales[index * 4 + i] = value;
  }
}

// From tiles: a thread decodes one lane's 16 bytes, two runs of 8 columns in each of two rows. Both scales of
// a row in a block are the same.
template <typename T, bool kNested>
__global__ void __launch_bounds__(kThreads)
    dequantize_tiles_kernel(const __grid_constant__ Packed4 packed, int first_tile, int first_row,
                            int end_row, int lanes, int in, int nested_shift, T* out) {
  __shared__ float values[16];
  if (threadIdx.x < 16) values[threadIdx.x] = packed.values[threadIdx.x];
  join_stream();
  __syncthreads();
  const int blocks = in / 64, units = (in + kUnitColumns - 1) / kUnitColumns;
  for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); i < lanes;
       i += static_cast<int>(gridDim.x) * kThreads) {
    const int lane = i % 32, tile = first_tile + i / 32 / blocks, block = i / 32 % blocks;
    const std::int64_t unit = static_cast<std::int64_t>(tile) * units + block / 2;
    const uint4 codes =
        __ldcs(reinterpret_cast<const uint4*>(packed.codes) + (unit * 2 + block % 2) * 32 + lane);
    const unsigned runs[2][2] = {{codes.x, codes.y}, {codes.z, codes.w}};
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int row = tile * kTileRows + lane / 4 + side * 8;
      if (row >= end_row) continue;
      const std::int64_t scale_at = (unit * 8 + lane / 4) * 4 + side * 2 + block % 2;
      float scale;
      if constexpr (kNested) {
        const int code = static_cast<const std::uint8_t*>(packed.scales)[scale_at];
        const std::int64_t nested_at = (static_cast<std::int64_t>(row) * units + block / 2) >> nested_shift;
        scale = __fadd_rn(mul_ftz(packed.map[code], packed.nested[nested_at]), packed.offset);
      } else {
        scale = static_cast<const float*>(packed.scales)[scale_at];
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Vec<T, 8> result;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const unsigned code = runs[side][half] >> (j / 2 * 8 + (j % 2 == 0 ? 4 : 0)) & 15;
          result.values[j] = from_float<T>(mul_ftz(values[code], scale));
        }
        T* to = out + static_cast<std::int64_t>(row - first_row) * in + block * 64 + half * 32 + lane % 4 * 8;
        *reinterpret_cast<Vec<T, 8>*>(to) = result;
      }
    }
  }
}

template <typename T>
__global__ void dequantize_packed_kernel(const __grid_constant__ Packed4 packed, std::int64_t first,
                                         std::int64_t count, T* out) {
  join_stream();
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const std::int64_t at = first + i;
    const int pair = packed.codes[at / 2];
    out[i] = from_float<T>(
        mul_ftz(packed.values[at % 2 == 0 ? pair >> 4 : pair & 15], packed.scale(at / packed.block_size)));
  }
}

Buffer upload(const Tensor& tensor, cudaStream_t stream) {
  Buffer buffer(Place::kDevice, (tensor.bytes() + 15) / 16 * 16);
  check(cudaMemcpyAsync(buffer.as<void>(), tensor.data(), static_cast<std::size_t>(tensor.bytes()),
                        cudaMemcpyHostToDevice, stream),
        "copying a weight to the GPU");
  return buffer;
}

unsigned blocks_for(std::int64_t threads) { return static_cast<unsigned>(ceil_div(threads, kThreads)); }

// Units that share a nested absmax: blocks of 256 blocks, all powers of two.
int nested_shift_of(const CudaLinear& linear) {
  return std::countr_zero(static_cast<unsigned>(2 * linear.block_size));
}

}  // namespace

WeightForm form_of(const Block4Weight& weight, DType compute, int capability) {
  const std::int64_t in = weight.shape[1];
  if (compute == DType::kF32 || capability < 80 || in % 64 != 0 || in > kMaxTileColumns ||
      weight.block_size < 64)
    return WeightForm::kBlock4;
  return weight.nested() && in % kUnitColumns == 0 ? WeightForm::kTiles4 : WeightForm::kTiles4F;
}

void upload_block4(const Block4Weight& weight, CudaLinear& linear, cudaStream_t stream) {
  linear.code = weight.code;
  linear.block_size = weight.block_size;
  linear.offset = weight.nested_offset;
  linear.codes = upload(weight.packed, stream);
  linear.scales = upload(weight.absmax, stream);
  if (weight.nested()) {
    linear.nested = upload(weight.nested_absmax, stream);
    linear.map = upload(weight.nested_quant_map, stream);
  }
  if (linear.form != WeightForm::kBlock4) {
    const std::int64_t lanes = tiles_of(linear) * units_of(linear) * 2 * 32;
    const std::int64_t quads = tiles_of(linear) * units_of(linear) * 8;
    Buffer codes(Place::kDevice, lanes * 16);
    tile_codes_kernel<<<blocks_for(lanes), kThreads, 0, stream>>>(linear.codes.as<std::uint8_t>(), linear.out,
                                                                  linear.in, lanes, codes.as<uint4>());
    check(cudaGetLastError(), "reordering a weight");
    const bool nested = linear.form == WeightForm::kTiles4;
    Buffer scales(Place::kDevice, quads * 4 * (nested ? 1 : 4));
    if (nested)
      tile_scales_kernel<<<blocks_for(quads), kThreads, 0, stream>>>(
          packed4_of(linear), linear.out, linear.in, quads, scales.as<std::uint8_t>());
    else
      tile_scales_kernel<<<blocks_for(quads), kThreads, 0, stream>>>(packed4_of(linear), linear.out,
                                                                     linear.in, quads, scales.as<float>());
    check(cudaGetLastError(), "reordering a weight's scales");
    check(cudaStreamSynchronize(stream), "reordering a weight");
    linear.codes = std::move(codes);
    linear.scales = std::move(scales);
    if (!nested) {
      linear.nested = Buffer();
      linear.map = Buffer();
    }
  }
  check(cudaStreamSynchronize(stream), "loading a weight");
}

void dequantize4(const CudaLinear& linear, std::int64_t first, std::int64_t rows, Values out,
                 cudaStream_t stream) {
  constexpr std::int64_t kMaxGrid = 132 * 8 * 4;
  with_type(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const Packed4 packed = packed4_of(linear);
    const std::int64_t count = rows * linear.in;
    auto* to = static_cast<T*>(out.data);
    if (linear.form == WeightForm::kBlock4) {
      const Launch shape{dim3(static_cast<unsigned>(std::min(ceil_div(count, kThreads), kMaxGrid))),
                         kThreads};
      launch(dequantize_packed_kernel<T>, shape, stream, "dequantization", packed, first * linear.in, count,
             to);
      return;
    }
    // Rows begin at a tile's first: panels are cut so.
    if constexpr (sizeof(T) == 2) {
      const std::int64_t lanes = ceil_div(rows, kTileRows) * (linear.in / 64) * 32;
      auto* kernel = linear.form == WeightForm::kTiles4 ? dequantize_tiles_kernel<T, true>
                                                        : dequantize_tiles_kernel<T, false>;
      launch(kernel, {dim3(static_cast<unsigned>(std::min(ceil_div(lanes, kThreads), kMaxGrid))), kThreads},
             stream, "dequantization", packed, static_cast<int>(first / kTileRows), static_cast<int>(first),
             static_cast<int>(first + rows), static_cast<int>(lanes), static_cast<int>(linear.in),
             nested_shift_of(linear), to);
    } else {
      throw internal_error("4-bit tiles are for 16-bit products");
    }
  });
}

}  // namespace qtool::cuda
