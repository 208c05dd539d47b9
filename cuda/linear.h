// Linear layers on the GPU: which kernels compute a product, by the weight's
// form and the number of tokens.
//
//   few tokens     one launch per group of layers that share an input
//   (small_linear.h) many tokens    cuBLASLt; 4-bit weights are dequantized
//   before it, a panel at a time that stays in the L2 cache anything else
//   generic_linear.h
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "cuda/cublaslt.h"
#include "cuda/device.h"
#include "cuda/pointwise.h"
#include "cuda/residents.h"

namespace qtool::cuda {

// What goes into a linear layer: values as they are, a norm of them (NormKind::kRms
// with a weight and no bias), or a gated product.
struct LinearInput {
  Source source = Source::kValues;
  Values x = {};       // [rows, in]; kNorm: float32
  Values weight = {};  // kNorm: [in]
  float eps = 0.0f;
  float weight_offset = 0.0f;
  Values up = {};  // kGated; x is overwritten where no fused kernel takes the product
  Activation activation = Activation::kSilu;
};

class LinearRunner {
 public:
  LinearRunner(const Device& device, cudaStream_t stream);

  // outs[i] = linears[i](input) for 1 to 3 layers with as many inputs each.
  // Each out gets the layer's compute type.
  void run(const LinearInput& input, std::span<const CudaLinear* const> linears, std::int64_t rows,
           std::span<CudaArray* const> outs);
  // residual += linear(input); `out` is scratch.
  void run_add(const LinearInput& input, const CudaLinear& linear, std::int64_t rows, CudaArray& out,
               CudaArray& residual);

  // Where its buffers are now; they move when they grow.
  std::vector<const void*> workspaces() const;

 private:
  struct Job {
    const LinearInput* input;
    std::span<const CudaLinear* const> linears;
    std::int64_t rows;
    std::span<CudaArray* const> outs;
    float* residual;
  };
  bool run_few(const Job& job);
  void run_one(const Job& job, std::size_t index);
  void run_int8(const CudaLinear& linear, Values x, std::int64_t rows, CudaArray& out);
  void run_panels(const CudaLinear& linear, const void* x, std::int64_t rows, CudaArray& out);
  Values typed_input(const LinearInput& input, std::int64_t rows, std::int64_t in, DType type);
  struct Int8Prepared;
  Int8Prepared prepare_int8(const CudaLinear& linear, Values x, std::int64_t rows);

  const Device& device_;
  cudaStream_t stream_;
  std::unique_ptr<CublasLt> blas_;
  Buffer typed_, half_, int8_, panel_, sums_;
};

}  // namespace qtool::cuda
