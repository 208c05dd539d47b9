// tokenizer.model: the file format of Google's sentencepiece library, with the semantics of transformers'
// LlamaTokenizer around it.
#pragma once

#include <string>

#include "core/text/pipeline.h"
#include "formats/tokenizer_config.h"

namespace qtool {

// `content` is the file's; `what` names it in errors. The library cuts text into pieces; special tokens in
// the text, the space in front, BOS, EOS and decoding are as transformers 5 does them for the class that
// `config` names. Errors: kMalformed, kUnsupported for a tokenizer class with semantics of its own.
TokenizerParts parts_from_sentencepiece(const std::string& content, const TokenizerConfig& config,
                                        const std::string& what);

}  // namespace qtool
