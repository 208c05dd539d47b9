#include "cuda/arguments.h"

#include "cuda/norm.h"
#include "cuda/own.h"

namespace qtool::cuda {

void run_norm(const CudaArray& x, const Backend::Norm& norm, int groups, std::int64_t rows,
              const CudaArray& out, cudaStream_t stream) {
  const NormRule rule{norm.kind, norm.eps, norm.weight ? values_of(*norm.weight) : Values{},
                      norm.weight_offset, norm.bias ? values_of(*norm.bias) : Values{}};
  const Backend::Table* table = norm.weight ? norm.weight : norm.bias;
  const std::int64_t width = table ? own<CudaTable>(*table).count() : x.cols;
  require((width == x.cols || width == x.cols / groups) &&
              (!norm.bias || own<CudaTable>(*norm.bias).count() == width),
          "a norm's tables have the columns of a piece or of a row");
  cuda::norm(x.values(), rule, groups, width == x.cols, rows, x.cols, out.values(), stream);
}

bool takes_norm(const CudaArray& x, const Backend::Norm& norm) {
  return norm.kind == NormKind::kRms && norm.weight && !norm.bias && x.dtype == DType::kF32;
}

LinearInput normed(const CudaArray& x, const Backend::Norm& norm) {
  require(own<CudaTable>(*norm.weight).count() == x.cols, "norm_linears' widths agree");
  LinearInput input;
  input.source = Source::kNorm;
  input.x = x.values();
  input.weight = values_of(*norm.weight);
  input.weight_offset = norm.weight_offset;
  input.eps = norm.eps;
  return input;
}

SplitProblem split_problem(const CudaArray& fused, int groups, std::int64_t rows,
                           std::span<Backend::Array* const> outs) {
  require(groups > 0 && outs.size() <= kMostSplit && rows <= fused.rows, "split has at most four outputs");
  SplitProblem problem;
  problem.fused = fused.memory.as<void>();
  problem.parts = static_cast<int>(outs.size());
  problem.groups = groups;
  problem.element = static_cast<int>(size_of(fused.dtype));
  problem.rows = rows;
  std::int64_t cols = 0;
  for (std::size_t i = 0; i < outs.size(); ++i) {
    auto& to = own<CudaArray>(*outs[i]);
    require(to.cols % groups == 0 && rows <= to.rows, "split's outputs take an equal share of each group");
    to.dtype = fused.dtype;
    problem.outs[i] = to.memory.as<void>();
    problem.widths[i] = static_cast<int>(to.cols / groups);
    cols += to.cols;
  }
  require(cols == fused.cols, "split's widths agree");
  return problem;
}

void check_rows(std::span<const std::int64_t> rows, const CudaArray& array) {
  for (const std::int64_t row : rows)
    require(row >= 0 && row < array.rows, "a list of rows stays within its array");
}

}  // namespace qtool::cuda
