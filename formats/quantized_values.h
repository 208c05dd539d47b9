// The values of one weight that is stored quantized, read from its files piece by piece.
//
// Of a matrix of any size only what all pieces need stays in memory: an absmax a row (int8), or an absmax of
// 256 absmax (nested 4-bit), which is 4 bytes for 16384 values. Codes and plain absmax are read with the
// values that they belong to.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/tensor.h"
#include "formats/checkpoint.h"
#include "formats/scratch.h"
#include "formats/stored_weight.h"

namespace qtool {

// What one thread needs to read quantized values.
struct QuantizedBuffers {
  Scratch codes, statistics, absmax, blocks;
};

class QuantizedValues {
 public:
  // Reads the statistics that stay in memory; `checkpoint` must outlive the object. Errors: those of
  // stored_weight_of().
  QuantizedValues(const Checkpoint& checkpoint, const std::string& module);

  // Values [begin, begin + count) of the flattened matrix, each rounded once to `dtype`, into `out`.
  // Thread-safe. Errors: kIo.
  void read(std::int64_t begin, std::int64_t count, DType dtype, QuantizedBuffers& buffers,
            std::byte* out) const;

  std::span<const float> nested_absmax() const { return nested_absmax_.as<float>(); }  // empty unless nested

 private:
  void read_int8(std::int64_t begin, std::int64_t count, DType dtype, QuantizedBuffers& buffers,
                 std::byte* out) const;
  void read_block4(std::int64_t begin, std::int64_t count, DType dtype, QuantizedBuffers& buffers,
                   std::byte* out) const;

  const Checkpoint& checkpoint_;
  StoredWeight stored_;
  const StoredTensor* codes_;             // I8 [out, in], or two a byte
  const StoredTensor* absmax_ = nullptr;  // 4 bit: F32 [blocks]; nested: U8 [blocks]
  Tensor row_absmax_;                     // int8: F32 [out]
  Tensor nested_absmax_;                  // nested: F32 [ceil(blocks / 256)]
  Tensor nested_map_;                     // nested: F32 [256]
};

}  // namespace qtool
