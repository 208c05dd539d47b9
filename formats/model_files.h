// The files of a model folder that are not weights: config.json of a converted checkpoint, and what is copied
// along.
#pragma once

#include <string>
#include <vector>

#include "core/model/plan.h"
#include "formats/file.h"
#include "formats/json.h"

namespace qtool {

// config.json of a checkpoint made by `plan`: the source's, with the dtype of what stays unquantized (under
// the key the source uses: `dtype` of transformers 5, `torch_dtype` before) and with the plan's
// quantization_config, or none.
Json output_config(const Json& source, const Plan& plan);

// Copies generation, tokenizer and chat template files and licences byte for byte, as far as `folder` has
// them; returns their names. A README is not copied: it describes the unquantized model.
std::vector<std::string> copy_model_files(const std::string& folder, AtomicFolder& output);

}  // namespace qtool
