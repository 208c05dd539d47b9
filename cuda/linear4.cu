// The linear layers of 4-bit tiles: which kernel takes how many tokens.
//
// Of kernels that compute the same, the fastest. Microseconds on an H100, NF4 with double quantization,
// without the conversion of inputs:
//
//   tokens             8                16..32             64      128      512       1024
//   22016 x 4096       22 (batch4 23)   23..25 (41)        34      47 (119) 172       337
//                                                                           (panels 208, 320)
//   4096 x 4096        7 (small4 8)     9..10 (13..19)     10 (20) 13 (28)  37 (38)
//   4096 x 11008       14 (small4 14)   16 (28)                    26 (83)  84 (102)
//
// are wide4's, the others' in brackets; panels are dequantized for cuBLASLt. Narrow matrices of 2 to 8 tokens
// that read plain values are few4's, which converts its inputs itself: 7 for 4096 x 4096 and 14 for
// 4096 x 11008, conversion included. Together with gates in wide4's store it makes a step of 8 tokens of a 7B
// model 7 % shorter (3336 -> 3111 us). Where rows are many it was slower than wide4 and the conversion.
#include <algorithm>

#include "cuda/batch4.h"
#include "cuda/few4.h"
#include "cuda/launch.cuh"
#include "cuda/linear.h"
#include "cuda/one_token4.h"
#include "cuda/small_linear.h"
#include "cuda/wide4.h"

namespace qtool::cuda {
namespace {

constexpr std::int64_t kMostWide4Tokens = 512;  // beyond, dequantizing first is faster
constexpr std::int64_t kMostBatch4Tokens = 128;

enum class Way { kOneToken, kFew, kSmall, kBatch, kWide, kPanels };

struct Choice {
  bool isolated;
  std::int64_t tokens, row_tiles;
  bool one_token, few, wide, batch, batch_pays, panels;  // what takes the product on this device
  int multiprocessors;
};

Way way_of(const Choice& c) {
  if (c.isolated) return Way::kWide;
  if (c.one_token) return Way::kOneToken;
  // A wide matrix has work for all warps of wide4 from the first token on.
  const bool many_rows = c.row_tiles >= 4 * c.multiprocessors;
  if (c.wide && c.tokens > (many_rows ? 1 : 8) && (c.tokens <= kMostWide4Tokens || !c.panels))
    return Way::kWide;
  if (c.few && c.tokens > 1) return Way::kFew;
  if (c.batch && c.batch_pays && (c.tokens <= kMostBatch4Tokens || !c.panels)) return Way::kBatch;
  return c.tokens <= kFewTokens || !c.panels ? Way::kSmall : Way::kPanels;
}

}  // namespace

bool is_tiles(const CudaLinear& linear) {
  return linear.form == WeightForm::kTiles4 || linear.form == WeightForm::kTiles4F;
}

// One launch for all layers of the job and as many tokens as its kernel takes; false where dequantized panels
// are faster, or layers cannot share a launch.
bool LinearRunner::run_tiles(const Job& job) {
  const CudaLinear& first = *job.linears[0];
  for (const CudaLinear* linear : job.linears)
    if (!takes_small(*linear, device_.capability) || !can_share(*linear, first)) return false;
  SmallProblem problem = small_problem(job);
  HalfInputs inputs = half_inputs_of(job, problem);
  const bool nested = first.form == WeightForm::kTiles4;
  const std::int64_t batch = most_batch4_tokens(device_.capability, device_.shared_bytes);
  std::int64_t row_tiles = 0;
  for (int i = 0; i < problem.part_count; ++i) row_tiles += problem.parts[i].row_tiles;
  const Way way =
      way_of({isolated_, job.rows, row_tiles,
              job.rows == 1 && takes_one_token(inputs, device_.capability, device_.shared_bytes),
              wide4_ != nullptr && takes_few4(inputs, device_.shared_bytes), wide4_ != nullptr, batch > 0,
              pays_batch4(problem, job.rows), blas_ != nullptr, device_.multiprocessors});
  if (way == Way::kPanels || (job.gate && way != Way::kWide)) return false;
  if (way == Way::kOneToken) {
    launch_one_token4(problem, inputs, nested, stream_);
    return true;
  }
  if (way == Way::kFew) {
    launch_few4(problem, inputs, nested, stream_);
    return true;
  }

  // Scales first: the inputs behind them stay aligned.
  const bool wide = way == Way::kWide;
  const std::int64_t tokens = wide ? padded_wide4_tokens(job.rows) : job.rows,
                     scale_bytes = ceil_div(tokens * 4, 1024) * 1024;
  half_.reserve(scale_bytes + tokens * inputs.padded * 2);
  inputs.out = half_.as<std::byte>() + scale_bytes;
  inputs.scales = half_.as<float>();
  inputs.wide_tokens = wide ? tokens : 0;
  half_inputs(inputs, stream_);
  problem.x = inputs.out;
  problem.x_scales = inputs.scales;
  problem.x_stride = wide ? tokens : inputs.padded;
  if (wide) {
    launch_wide4(problem, nested, isolated_, job.gate, *wide4_, stream_);
    return true;
  }
  const std::int64_t most = way == Way::kBatch ? batch : kSmallTokens;
  for (std::int64_t done = 0; done < job.rows; done += most) {
    const SmallProblem pass = pass_of(problem, done, std::min(most, job.rows - done), inputs.padded * 2);
    if (way == Way::kBatch)
      launch_batch4(pass, nested, stream_);
    else
      launch_small4(pass, nested, stream_);
  }
  return true;
}

}  // namespace qtool::cuda
