// inspect --svg: the documents of --json as pictures.
#pragma once

#include <string>

#include "formats/json.h"

namespace qtool {

// Of the model at a glance: bytes by class and by kind of tensor.
std::string summary_svg(const Json& document);

// Of one tensor with "histogram" or "codes".
std::string tensor_svg(const Json& document);

// Errors: kIo.
void write_svg(const std::string& path, const std::string& text);

}  // namespace qtool
