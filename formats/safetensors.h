// The safetensors format: header <-> tensors. Validated once, here; after that every access is plain
// arithmetic.
//
//   u64 little-endian header length | JSON header, padded with spaces to a multiple of 8 | tensor bytes, no
//   gaps
//
// Source: the safetensors crate (tensor.rs); order and padding as in its serialize().
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/limits.h"
#include "core/tensor.h"
#include "formats/file.h"

namespace qtool {

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::int64_t begin = 0;  // offset of its bytes in the file (not in the data section)
  std::int64_t bytes = 0;
  bool transposed = false;  // the bytes are those of the transposed matrix (views in files of torch.save)
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;              // in file order
  std::map<std::string, std::string> metadata;  // __metadata__
  std::int64_t data_begin = 0;                  // 8 + header length
};

// Reads and validates: known dtypes, non-negative shapes whose products fit, byte counts that match, offsets
// that tile the data section without holes or overlaps up to the end of the file. Errors: kMalformed,
// kUnsupported (dtype).
SafetensorsHeader read_safetensors_header(const InputFile& file);

// A tensor to be written.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// A whole file's layout: header bytes as the crate's serializer prints them (metadata {"format":"pt"}) and
// every tensor's place, in file order: dtype rank descending, then name.
struct SafetensorsLayout {
  std::string prefix;               // length word + padded JSON: the file's first bytes
  std::vector<TensorInfo> tensors;  // in file order
  std::int64_t file_bytes = 0;
};
SafetensorsLayout layout_of(std::vector<TensorSpec> tensors);

}  // namespace qtool
