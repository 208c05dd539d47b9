#include "cuda/cublaslt.h"

#include <array>
#include <cublasLt.h>
#include <dlfcn.h>
#include <map>
#include <tuple>

#include "core/error.h"
#include "cuda/raii.h"

namespace qtool::cuda {
namespace {

constexpr std::int64_t kWorkspaceBytes = 64 << 20;

// The functions that are needed, by name, with the types of the header.
struct Library {
  void* handle = nullptr;
// clang-format off
#define QTOOL_FUNCTIONS(X) \
  X(Create) \
  X(Destroy) \
  X(Matmul) \
  X(MatmulAlgoGetHeuristic) \
  X(MatmulDescCreate) \
  X(MatmulDescDestroy) \
  X(MatmulDescSetAttribute) \
  X(MatrixLayoutCreate) \
  X(MatrixLayoutDestroy) \
  X(MatmulPreferenceCreate) \
  X(MatmulPreferenceDestroy) \
  X(MatmulPreferenceSetAttribute)
// clang-format on
#define QTOOL_MEMBER(name) decltype(&cublasLt##name) name = nullptr;
  QTOOL_FUNCTIONS(QTOOL_MEMBER)
#undef QTOOL_MEMBER

  bool load() {
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
      handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (handle) break;
    }
    if (!handle) return false;
    bool complete = true;
#define QTOOL_FIND(name)                                                    \
  name = reinterpret_cast<decltype(name)>(dlsym(handle, "cublasLt" #name)); \
  complete = complete && name;
    QTOOL_FUNCTIONS(QTOOL_FIND)
#undef QTOOL_FIND
#undef QTOOL_FUNCTIONS
    return complete;
  }
};

void require(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(status == CUBLAS_STATUS_ALLOC_FAILED ? ExitCode::kMemory : ExitCode::kDevice,
                std::string("cuBLASLt failed at ") + what + ", status " + std::to_string(status));
}

cudaDataType_t data_type(DType type) {
  switch (type) {
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kI8:
      return CUDA_R_8I;
    default:
      return CUDA_R_32F;
  }
}

class Implementation final : public CublasLt {
 public:
  explicit Implementation(const Library& library)
      : library_(library), workspace_(Place::kDevice, kWorkspaceBytes) {
    require(library_.Create(&handle_), "creation");
  }
  Implementation(const Implementation&) = delete;
  ~Implementation() override {
    for (auto& [shape, plan] : plans_) {
      for (cublasLtMatrixLayout_t layout : {plan.weight, plan.x, plan.y})
        library_.MatrixLayoutDestroy(layout);
      library_.MatmulDescDestroy(plan.operation);
    }
    library_.Destroy(handle_);  // the library stays loaded: unloading it at exit
                                // gains nothing
  }

  bool multiply(const MatrixProduct& product, cudaStream_t stream) override {
    const Form shape{product.type, product.adds, product.tokens, product.out, product.in, product.y_stride};
    auto found = plans_.find(shape);
    if (found == plans_.end()) found = plans_.emplace(shape, plan_of(product)).first;
    const Plan& plan = found->second;
    if (!plan.possible) return false;
    const bool integers = product.type == DType::kI8;
    const float one = 1.0f, kept = product.adds ? 1.0f : 0.0f;
    const std::int32_t int_one = 1, int_zero = 0;
    require(
        library_.Matmul(handle_, plan.operation, integers ? static_cast<const void*>(&int_one) : &one,
                        product.weight, plan.weight, product.x, plan.x,
                        integers ? static_cast<const void*>(&int_zero) : &kept, product.y, plan.y, product.y,
                        plan.y, &plan.algorithm, workspace_.as<void>(), kWorkspaceBytes, stream),
        "a matrix product");
    return true;
  }

 private:
  using Form = std::tuple<DType, bool, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;
  struct Plan {
    bool possible = false;
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t weight = nullptr, x = nullptr, y = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
  };

  // The library counts in columns: y^T [out, tokens] = (weight as [in, out])^T
  // * (x as [in, tokens]).
  Plan plan_of(const MatrixProduct& product) {
    const bool integers = product.type == DType::kI8;
    const cudaDataType_t type = data_type(product.type), result = integers       ? CUDA_R_32I
                                                                  : product.adds ? CUDA_R_32F
                                                                                 : type;
    Plan plan;
    require(library_.MatmulDescCreate(&plan.operation, integers ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                                      integers ? CUDA_R_32I : CUDA_R_32F),
            "a description");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    require(library_.MatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                            sizeof transposed),
            "a description");
    const auto layout = [&](cublasLtMatrixLayout_t& made, cudaDataType_t of, std::int64_t rows,
                            std::int64_t columns, std::int64_t stride) {
      require(library_.MatrixLayoutCreate(&made, of, static_cast<std::uint64_t>(rows),
                                          static_cast<std::uint64_t>(columns), stride),
              "a layout");
    };
    layout(plan.weight, type, product.in, product.out, product.in);
    layout(plan.x, type, product.in, product.tokens, product.in);
    layout(plan.y, result, product.out, product.tokens, product.y_stride);
    cublasLtMatmulPreference_t preference = nullptr;
    require(library_.MatmulPreferenceCreate(&preference), "a preference");
    const std::uint64_t workspace = kWorkspaceBytes;
    require(library_.MatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &workspace, sizeof workspace),
            "a preference");
    cublasLtMatmulHeuristicResult_t best{};
    int count = 0;
    const cublasStatus_t status = library_.MatmulAlgoGetHeuristic(
        handle_, plan.operation, plan.weight, plan.x, plan.y, plan.y, preference, 1, &best, &count);
    library_.MatmulPreferenceDestroy(preference);
    plan.possible = status == CUBLAS_STATUS_SUCCESS && count > 0;
    plan.algorithm = best.algo;
    return plan;
  }

  Library library_;
  Buffer workspace_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Form, Plan> plans_;
};

}  // namespace

std::unique_ptr<CublasLt> CublasLt::open() {
  Library library;
  if (!library.load()) return nullptr;
  return std::make_unique<Implementation>(library);
}

}  // namespace qtool::cuda
