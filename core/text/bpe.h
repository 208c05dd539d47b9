// Byte-pair encoding (Sennrich et al., 2016) as Hugging Face's tokenizers run it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/text/token_model.h"
#include "core/text/vocabulary.h"

namespace qtool {

struct BpeOptions {
  std::optional<std::string>
      unk_token;  // stands for characters that are not in the vocabulary; none: they vanish
  std::string continuing_subword_prefix;  // spelled in front of every character of a piece but the first
  std::string end_of_word_suffix;         // spelled behind the last character of a piece
  bool fuse_unk = false;                  // a run of unknown characters is one unk_token
  bool byte_fallback = false;             // unknown characters become their bytes' tokens <0x00> .. <0xFF>
  bool ignore_merges = false;             // a piece that is a token is that token, whatever the merges say
};

using Merge = std::pair<std::string, std::string>;

// A merge in ids: what `left` and `right` become when they stand side by side.
struct MergeRule {
  TokenId left;
  TokenId right;
  TokenId joined;
};

// `merges` in the ids of `vocabulary`, in the same order; the joined token is spelled without the `prefix` of
// its right half. Errors: kMalformed for a merge that names or makes a token the vocabulary lacks.
std::vector<MergeRule> merge_rules(const Vocabulary& vocabulary, const std::vector<Merge>& merges,
                                   std::string_view prefix);

// Cuts a piece into characters, then joins the adjacent pair whose merge ranks first, again and again.
class Bpe : public TokenModel {
 public:
  // `rules` by rank, the first one first; of two for the same pair the later one counts. Errors: kMalformed
  // for an unk_token that the vocabulary lacks.
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<MergeRule>& rules, BpeOptions options);

  void tokenize(std::string_view piece, std::vector<TokenId>& out) const override;

 private:
  struct Joined {
    std::int32_t rank;
    TokenId id;
  };
  // (left id, right id) -> what they become. Open addressing, as in Vocabulary.
  class MergeTable {
   public:
    explicit MergeTable(std::size_t count);
    void set(TokenId left, TokenId right, Joined joined);  // errors: kMalformed where too many collide
    const Joined* find(TokenId left, TokenId right) const;

   private:
    struct Row {
      std::uint64_t pair;
      Joined joined;
    };
    std::size_t home_of(std::uint64_t pair) const;
    std::size_t slot_of(std::uint64_t pair) const;
    std::vector<Row> rows_;
    std::size_t probes_left_;
  };

  void characters_of(std::string_view piece, std::vector<TokenId>& out) const;
  void merge(std::vector<TokenId>& symbols) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  BpeOptions options_;
  std::optional<TokenId> unk_id_;
  std::array<std::optional<TokenId>, 256> byte_ids_;
  MergeTable merges_;
};

}  // namespace qtool
