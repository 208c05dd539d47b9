// Linear layers on the GPU: which kernels compute a product, by the weight's
// form and the number of tokens.
//
//   few tokens     one launch per group of layers that share an input
//   (small_linear.h) many tokens    cuBLASLt; 4-bit weights are dequantized
//   before it, a panel at a time that stays in the L2 cache anything else
//   generic_linear.h
#pragma once

#include <memory>
#include <optional>
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

// Whether two layers may run as parts of one launch.
bool can_share(const CudaLinear& a, const CudaLinear& b);

// 4-bit tiles.
bool is_tiles(const CudaLinear& linear);

struct SmallProblem;
class Wide4Workspace;

// With cuBLASLt, up to so many tokens the weights are read once per 32 tokens; beyond, dequantizing them
// first is faster.
inline constexpr std::int64_t kFewTokens = 64;

class LinearRunner {
 public:
  LinearRunner(const Device& device, cudaStream_t stream);
  ~LinearRunner();

  // outs[i] = linears[i](input) for 1 to 3 layers with as many inputs each.
  // Each out gets the layer's compute type.
  void run(const LinearInput& input, std::span<const CudaLinear* const> linears, std::int64_t rows,
           std::span<CudaArray* const> outs);
  // residual += linear(input); `out` is scratch.
  void run_add(const LinearInput& input, const CudaLinear& linear, std::int64_t rows, CudaArray& out,
               CudaArray& residual);

  // From now on a row's result is the same, to the last bit, whatever other rows it is computed with. False:
  // this device has no kernel that could promise it for 4-bit tiles.
  bool isolate_rows();

  // residual += down(act(gate(input)) * up(input)); false, and nothing is done, where the gate's product has
  // no kernel that takes the activation along: of many tokens, and on some devices of more than one.
  struct GatedMlp {
    const CudaLinear& gate;
    const CudaLinear& up;
    const CudaLinear& down;
    Activation activation;
  };
  bool run_gated(const LinearInput& input, const GatedMlp& mlp, std::int64_t rows, CudaArray& gate_out,
                 CudaArray& up_out, CudaArray& scratch, CudaArray& residual);

  // Where its buffers are now; they move when they grow.
  std::vector<const void*> workspaces() const;

 private:
  struct Job {
    const LinearInput* input;
    std::span<const CudaLinear* const> linears;
    std::int64_t rows;
    std::span<CudaArray* const> outs;
    float* residual;
    std::int64_t first_row = 0;  // of the outs, to be written
    // Of two layers with as many rows: the first out becomes act(first) * second.
    std::optional<Activation> gate = {};

    void* y(std::size_t i) const {
      return outs[i]->memory.as<std::byte>() + first_row * linears[i]->out * size_of(linears[i]->compute);
    }
  };
  // True: isolated rows have been computed one by one, where their weights have no kernel that keeps them
  // apart.
  bool run_apart(const Job& job);
  bool run_few(const Job& job);
  // All of a job but its inputs, and what those are made of.
  SmallProblem small_problem(const Job& job) const;
  HalfInputs half_inputs_of(const Job& job, const SmallProblem& problem) const;
  // True: the result has been added to the job's residual; else it is in the layer's out.
  bool run_one(const Job& job, std::size_t index);
  bool run_panels(const CudaLinear& linear, const void* x, std::int64_t rows, CudaArray& out,
                  float* residual);
  Values typed_input(const LinearInput& input, std::int64_t rows, std::int64_t in, DType type);
  // linear4.cu
  bool run_tiles(const Job& job);
  // linear8.cu
  bool run_wide8(const Job& job);
  void run_int8(const Job& job, const CudaLinear& linear, Values x, CudaArray& out);
  void prepare_int8(const CudaLinear& linear, Values x, std::int64_t rows, SmallProblem& problem);

  const Device& device_;
  cudaStream_t stream_;
  std::unique_ptr<CublasLt> blas_;
  bool isolated_ = false;
  std::unique_ptr<Wide4Workspace> wide4_;  // where the device has the kernel
  Buffer typed_, half_, int8_, marks_, panel_, sums_;
};

}  // namespace qtool::cuda
