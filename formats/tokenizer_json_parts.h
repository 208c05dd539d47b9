// The stages of tokenizer.json around the model, each a "type" with its fields or a Sequence of such.
#pragma once

#include <string>
#include <vector>

#include "core/text/decoder.h"
#include "core/text/normalizer.h"
#include "core/text/pipeline.h"
#include "core/text/pre_tokenizer.h"
#include "formats/json.h"

namespace qtool::tokenizer_json {

// `part` may be null: no steps. Errors as parts_from_tokenizer_json.
std::vector<NormalizerStep> normalizer_from(const Json& part, const std::string& what);
std::vector<PreTokenizerStep> pre_tokenizer_from(const Json& part, const std::string& what);
std::vector<Frame> frames_from(const Json& part, const std::string& what);
std::vector<DecoderStep> decoder_from(const Json& part, const std::string& what);

}  // namespace qtool::tokenizer_json
