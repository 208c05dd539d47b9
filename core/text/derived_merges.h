// Merges for vocabularies that come without: tiktoken ranks know only their tokens.
#pragma once

#include <vector>

#include "core/text/bpe.h"
#include "core/text/vocabulary.h"

namespace qtool {

// Every way to cut a token into two tokens, by the id of the token, then of the left part, then of the right
// one: the order of tiktoken's ranks. Time grows with the bytes of all tokens, whatever they are.
std::vector<MergeRule> derived_merges(const Vocabulary& vocabulary);

}  // namespace qtool
