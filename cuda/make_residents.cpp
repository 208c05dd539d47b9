#include "cuda/make_residents.h"

#include <string>

#include "core/convert.h"
#include "core/error.h"
#include "cuda/tiles4.h"

namespace qtool::cuda {
namespace {

constexpr std::int64_t kMaxInt8Inputs = 131072;  // 127 * 128 * inputs stays below 2^31
constexpr int kMaxHeadDim = 256;

void require_float(DType dtype, const char* what) {
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16)
    throw Error(ExitCode::kUnsupported, std::string(what) + " of type " + std::string(info(dtype).name) +
                                            " is not supported on the GPU; known are F32, F16, BF16");
}

Buffer uploaded(const Tensor& tensor, const Stream& stream) {
  Buffer buffer(Place::kDevice, (tensor.bytes() + 15) / 16 * 16);
  send(buffer.as<void>(), tensor.data(), tensor.bytes(), stream);
  return buffer;
}

}  // namespace

void send(void* to, const void* from, std::int64_t bytes, const Stream& stream) {
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, stream.get()),
        "copying to the GPU");
  stream.wait();
}

std::unique_ptr<CudaLinear> make_cuda_linear(const Weight& weight, const std::optional<Tensor>& bias,
                                             DType compute, const Device& device, const Stream& stream) {
  require_float(compute, "a compute dtype");
  auto linear = std::make_unique<CudaLinear>();
  const Shape shape = shape_of(weight);
  if (shape.size() != 2) throw internal_error("cuda backend: a linear weight has two dimensions");
  linear->out = shape[0];
  linear->in = shape[1];
  linear->compute = compute;
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
    require_float(dense->values.dtype(), "a weight");
    linear->form = WeightForm::kDense;
    linear->dense_dtype = dense->values.dtype();
    linear->codes = uploaded(dense->values, stream);
  } else if (const auto* int8 = std::get_if<Int8Weight>(&weight)) {
    if (linear->in > kMaxInt8Inputs)
      throw Error(ExitCode::kUnsupported, "an LLM.int8 weight with " + std::to_string(linear->in) +
                                              " inputs is not supported: the largest number is " +
                                              std::to_string(kMaxInt8Inputs));
    linear->form = WeightForm::kInt8;
    linear->threshold = int8->threshold;
    linear->codes = uploaded(int8->codes, stream);
    linear->scales = uploaded(int8->row_absmax, stream);
  } else {
    const auto& block4 = std::get<Block4Weight>(weight);
    linear->form = form_of(block4, compute, device.capability);
    upload_block4(block4, *linear, stream.get());
  }
  if (bias) {
    require_float(bias->dtype(), "a bias");
    if (bias->count() != linear->out)
      throw internal_error("cuda backend: a bias has as many values as its weight has rows");
    linear->bias = uploaded(converted(converted(bias->view(), compute).view(), DType::kF32), stream);
  }
  return linear;
}

std::unique_ptr<CudaTable> make_cuda_table(const Tensor& values, const Stream& stream) {
  require_float(values.dtype(), "an embedding or norm");
  auto table = std::make_unique<CudaTable>();
  table->dtype = values.dtype();
  table->cols = values.shape().back();
  table->rows = values.count() / table->cols;
  table->memory = uploaded(values, stream);
  return table;
}

std::unique_ptr<CudaLinear> make_cuda_tied_head(const CudaTable& embedding, DType compute) {
  require_float(compute, "a compute dtype");
  auto linear = std::make_unique<CudaLinear>();
  linear->form = WeightForm::kDense;
  linear->tied = embedding.memory.as<void>();
  linear->dense_dtype = embedding.dtype;
  linear->out = embedding.rows;
  linear->in = embedding.cols;
  linear->compute = compute;
  return linear;
}

std::unique_ptr<CudaCache> make_cuda_cache(int layers, int sequences, std::int64_t positions, int kv_heads,
                                           int head_dim, DType dtype) {
  require_float(dtype, "a key/value cache");
  if (head_dim > kMaxHeadDim)
    throw Error(ExitCode::kUnsupported, "heads of " + std::to_string(head_dim) +
                                            " columns are not supported on the GPU: the largest number is " +
                                            std::to_string(kMaxHeadDim));
  auto cache = std::make_unique<CudaCache>();
  const std::int64_t bytes =
      std::int64_t{layers} * sequences * positions * kv_heads * head_dim * size_of(dtype);
  cache->keys = Buffer(Place::kDevice, bytes);
  cache->values = Buffer(Place::kDevice, bytes);
  cache->dtype = dtype;
  cache->layers = layers;
  cache->sequences = sequences;
  cache->positions = positions;
  cache->kv_heads = kv_heads;
  cache->head_dim = head_dim;
  return cache;
}

}  // namespace qtool::cuda
