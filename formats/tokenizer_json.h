// tokenizer.json: the file format of Hugging Face's `tokenizers` library.
#pragma once

#include <string>

#include "core/text/pipeline.h"
#include "formats/json.h"

namespace qtool {

// The parts of the tokenizer that `document` describes. `what` names the file in errors. `truncation` and
// `padding` are ignored, as transformers does unless asked. Errors: kMalformed; kUnsupported for a part qtool
// does not know, by name with those it knows.
TokenizerParts parts_from_tokenizer_json(const Json& document, const std::string& what);

}  // namespace qtool
