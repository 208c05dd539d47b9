// Ranks in the form of OpenAI's tiktoken: a line a token, its bytes in base64 and its id, which is also its
// rank.
#pragma once

#include <string>
#include <string_view>

#include "core/text/pipeline.h"
#include "formats/tokenizer_config.h"

namespace qtool {

// Whether `content` begins with a line of ranks. Llama 3's original tokenizer.model has this form, older ones
// under the same name are sentencepiece's.
bool is_tiktoken(std::string_view content);

// The file does not say how text is cut into pieces nor which tokens are special: the tokenizer class or
// model type that `config` names has to be known (Llama 3, Qwen 1). Ids are those that transformers'
// conversion gives. `what` names the file in errors. Errors: kMalformed, kUnsupported.
TokenizerParts parts_from_tiktoken(std::string_view content, const TokenizerConfig& config,
                                   const std::string& what);

}  // namespace qtool
