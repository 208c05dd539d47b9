// Checkpoints as torch.save() writes them (pytorch_model.bin): a zip archive of a pickled state_dict and one
// member a storage.
//
//   <name>/data.pkl      what tensors there are, see pickle.h
//   <name>/byteorder     "little"
//   <name>/data/0, 1...  the elements, stored as they are
//
// Source: torch/serialization.py (_save, _load).
#pragma once

#include <cstdint>
#include <vector>

#include "formats/file.h"
#include "formats/safetensors.h"

namespace qtool {

// The file's tensors by name, within the file; several may share their bytes. Nothing of the pickle is
// executed. Errors: kMalformed, kUnsupported (also for files of torch before 1.6, which are no archives, and
// for tensors that are views with strides of their own, but for transposed matrices).
std::vector<TensorInfo> read_torch_file(const InputFile& file);

}  // namespace qtool
