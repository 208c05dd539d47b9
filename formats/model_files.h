// The files of a model folder that are not weights: config.json of a converted checkpoint, and what is copied
// along.
#pragma once

#include <string>
#include <vector>

#include "core/model/plan.h"
#include "formats/atomic_folder.h"
#include "formats/json.h"

namespace qtool {

// Whether a file of that name, beside config.json and the weights, belongs to a model: generation, tokenizer
// and chat template files, licences. A README does not: it describes one form of the model.
bool is_copied_file(const std::string& name);

// config.json of a checkpoint made by `plan`: the source's (of a multimodal model that of its language model,
// which is all that is written), with the dtype of what stays unquantized (under
// the key the source uses: `dtype` of transformers 5, `torch_dtype` before) and with the plan's
// quantization_config, or none.
Json output_config(const Json& source, const Plan& plan);

// Copies those files (is_copied_file) byte for byte, as far as `folder` has them; returns their names.
std::vector<std::string> copy_model_files(const std::string& folder, AtomicFolder& output);

}  // namespace qtool
