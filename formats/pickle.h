// The part of Python's pickle format that a saved state_dict needs, read as data: nothing is imported, called
// or executed.
//
// A pickle is a program for a small stack machine. Of its some 70 instructions 40 build plain values; of the
// constructors it may name only those of tensors, storages and ordered dictionaries are known here, and they
// become descriptions, not objects. Everything else is refused by name. Source: Lib/pickletools.py, torch's
// _utils.py (_rebuild_tensor_v2, _rebuild_parameter) and serialization.py (persistent ids).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/tensor.h"

namespace qtool {

// A tensor as the pickle describes it: elements of a storage, which is a member of the archive.
struct PickledTensor {
  std::string name;
  std::string storage;        // "0": the member <archive>/data/0
  DType dtype = DType::kF32;  // of the storage
  std::int64_t storage_elements = 0;
  std::int64_t offset = 0;  // of the first element
  Shape shape;
  std::vector<std::int64_t> strides;  // in elements
};

// The tensors of a pickled state_dict, in its order. `what` names the file in messages. Errors: kMalformed
// for a pickle that is cut off or inconsistent, asks for any other constructor or holds anything but tensors
// under names; kUnsupported for element types qtool does not know.
std::vector<PickledTensor> read_state_dict(std::string_view pickle, const std::string& what);

}  // namespace qtool
