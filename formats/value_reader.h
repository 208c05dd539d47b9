// The values of a checkpoint's tensors, piece by piece, in whatever form they are stored.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "formats/checkpoint.h"
#include "formats/quantized_values.h"
#include "formats/scratch.h"

namespace qtool {

// What one thread needs to read values.
struct ReadBuffers {
  Scratch stored, converted, transposed;
  QuantizedBuffers quantized;
};

// Memory that reading takes, an upper bound.
struct ReadMemory {
  std::int64_t per_element = 0;  // of a thread's buffers, for each value of a piece
  std::int64_t held = 0;         // from the tensor's first piece until it is released
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

  ReadMemory memory(std::size_t tensor, DType dtype) const;  // of reading it as `dtype`

  // Values [begin, begin + count) of the flattened tensor as `dtype`, [count]; valid until `buffers` are used
  // again. Thread-safe. Of a tensor stored quantized the first call loads the statistics that all pieces
  // need; they are kept until release(). Errors: kIo; those of stored_weight_of().
  TensorView read(std::size_t tensor, std::int64_t begin, std::int64_t count, DType dtype,
                  ReadBuffers& buffers) const;

  // The absmax of absmax of a tensor stored quantized, [ceil(blocks / 256)]; empty where they are not nested.
  std::span<const float> nested_absmax(std::size_t tensor) const;
  void release(std::size_t tensor) const;

 private:
  struct Loaded {
    std::once_flag once;
    std::unique_ptr<QuantizedValues> values;
  };
  const QuantizedValues& loaded(std::size_t tensor) const;
  void read_stored(std::size_t tensor, std::int64_t begin, std::int64_t count, DType dtype,
                   ReadBuffers& buffers, std::byte* out) const;
  TensorView transposed(std::size_t tensor, std::int64_t begin, std::int64_t count, DType dtype,
                        ReadBuffers& buffers) const;

  const Checkpoint& checkpoint_;
  std::vector<ValueTensor> tensors_;
  std::unique_ptr<Loaded[]> loaded_;
};

}  // namespace qtool
