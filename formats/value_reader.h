// The values of a checkpoint's tensors, piece by piece, in whatever form they are stored.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/quant/weight.h"
#include "core/tensor.h"
#include "formats/checkpoint.h"

namespace qtool {

// Memory that is used again: grows, never shrinks, not initialised.
class Buffer {
 public:
  std::span<std::byte> take(std::int64_t bytes);
  template <typename T>
  std::span<T> take_as(std::int64_t count) {
    const std::span<std::byte> bytes = take(count * static_cast<std::int64_t>(sizeof(T)));
    return {reinterpret_cast<T*>(bytes.data()), static_cast<std::size_t>(count)};
  }

 private:
  Tensor memory_;
};

// What one thread needs to read values.
struct ReadBuffers {
  Buffer stored, converted, transposed;
};

// A tensor of values: `name` is the stored tensor, `module` its name without ".weight" (both for one that may
// be stored quantized).
struct ValueTensor {
  std::string name;
  std::string module;
  Shape transposed_shape = {};  // [rows, columns] of the values read, where the file holds [columns, rows]
};

class ValueReader {
 public:
  // `checkpoint` must outlive the reader.
  ValueReader(const Checkpoint& checkpoint, std::vector<ValueTensor> tensors);

  bool quantized(std::size_t tensor) const;             // is it stored with bitsandbytes' statistics?
  std::int64_t stored_bytes(std::size_t tensor) const;  // with its statistics

  // Values [begin, begin + count) of the flattened tensor as `dtype`, [count]; valid until `buffers` are used
  // again. Thread-safe. A tensor stored quantized is loaded, packed, by the first call and kept until
  // release(); one to be transposed, too, as `dtype`, which then is the same in all calls.
  TensorView read(std::size_t tensor, std::int64_t begin, std::int64_t count, DType dtype,
                  ReadBuffers& buffers) const;

  // The tensor as stored quantized. Errors: those of read_weight().
  const Weight& weight(std::size_t tensor) const;
  void release(std::size_t tensor) const;

 private:
  struct Loaded {
    std::once_flag once;
    std::unique_ptr<Weight> weight;
  };
  const Weight& loaded(std::size_t tensor, DType dtype) const;
  TensorView transposed(std::size_t tensor, std::int64_t begin, std::int64_t count, DType dtype,
                        ReadBuffers& buffers) const;

  const Checkpoint& checkpoint_;
  std::vector<ValueTensor> tensors_;
  std::unique_ptr<Loaded[]> loaded_;
};

// Values [begin, begin + count) of the flattened weight, rounded once to `dtype`: [count]. Works on the whole
// blocks or rows that hold them.
Tensor dequantize_range(const Weight& weight, std::int64_t begin, std::int64_t count, DType dtype);

}  // namespace qtool
