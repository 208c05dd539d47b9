// vocab.json and merges.txt: byte-level BPE as GPT-2 was published, and what transformers' classes make of
// it.
#pragma once

#include <string_view>

#include "core/text/pipeline.h"
#include "formats/json.h"
#include "formats/tokenizer_config.h"

namespace qtool {

// `vocab` and `merges` are the files' contents. Pre-tokenizer, normal form and special tokens are those of
// the class that `config` names; where it names none, of the class that its model type has. Errors:
// kMalformed; kUnsupported for a class with semantics of its own.
TokenizerParts parts_from_vocab_merges(const Json& vocab, std::string_view merges,
                                       const TokenizerConfig& config);

}  // namespace qtool
