// tokenizer.model as a tokenizer: the file format of Google's sentencepiece library, with the semantics of
// the transformers class around it.
#pragma once

#include <string>
#include <string_view>

#include "core/text/pipeline.h"
#include "formats/tokenizer_config.h"

namespace qtool {

// `content` is the file's; `what` names it in errors. The library cuts text into pieces by BPE or Unigram;
// the model's normalization, the space in front, special tokens in the text, BOS, EOS and decoding are as
// transformers does them for the class that `config` names. Where transformers 5 reads less from the file
// than is in it (it goes by ids instead of scores, and takes a Unigram model for BPE if the class is
// Llama's), the file counts, as in transformers 4. Errors: kMalformed; kUnsupported for a tokenizer class
// with semantics of its own and for models of words or characters.
TokenizerParts parts_from_sentencepiece(std::string_view content, const TokenizerConfig& config,
                                        const std::string& what);

}  // namespace qtool
