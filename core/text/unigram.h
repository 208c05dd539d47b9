// The unigram language model (Kudo, 2018) as Hugging Face's tokenizers and sentencepiece run it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "core/text/byte_trie.h"
#include "core/text/token_model.h"
#include "core/text/vocabulary.h"

namespace qtool {

struct UnigramOptions {
  std::optional<TokenId> unk_id;  // stands for characters that are not in the vocabulary
  bool byte_fallback = false;     // they become their bytes' tokens <0x00> .. <0xFF> where all of these exist
};

// Cuts a piece into the row of tokens whose log probabilities sum up highest (Viterbi over the lattice of all
// tokens that fit).
class Unigram : public TokenModel {
 public:
  // `scores` by id: log probabilities. Errors: kMalformed for an unk_id without a token and a token over 4
  // KB.
  Unigram(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores, UnigramOptions options);

  // Time and memory grow with the piece, times the longest token. Errors: kMalformed for a character that the
  // vocabulary lacks where there is no unk_id.
  void tokenize(std::string_view piece, std::vector<TokenId>& out) const override;

 private:
  // The best way to some position of the piece: its score, and the token it ends with.
  struct Step {
    double score;
    std::uint32_t begin;  // kUnreached: no way yet
    TokenId id;
  };
  std::vector<Step> best_steps(std::string_view piece) const;
  void append_unknown(std::string_view run, std::vector<TokenId>& out) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<double> scores_;  // by id
  UnigramOptions options_;
  double unk_score_;
  std::array<std::optional<TokenId>, 256> byte_ids_;
  ByteTrie trie_;
};

}  // namespace qtool
