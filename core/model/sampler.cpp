#include "core/model/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/model/logprobs.h"

namespace qtool {
namespace {

constexpr float kRemoved = -std::numeric_limits<float>::infinity();

// A token that is still in the game.
struct Candidate {
  std::int32_t id = 0;
  float score = 0.0f;
};

void add_bias(std::span<float> scores, const SamplingParams& params) {
  for (const auto& [id, bias] : params.logit_bias) scores[static_cast<std::size_t>(id)] += bias;
}

void penalize_repetition(std::span<float> scores, std::span<const std::int32_t> history, double penalty) {
  if (penalty == 1.0) return;
  std::vector<bool> seen(scores.size(), false);
  const auto factor = static_cast<float>(penalty);
  for (const std::int32_t id : history) {
    const auto at = static_cast<std::size_t>(id);
    if (seen[at]) continue;
    seen[at] = true;
    scores[at] = scores[at] < 0.0f ? scores[at] * factor : scores[at] / factor;
  }
}

// Removes every token that would complete an n-gram which the history already holds.
void forbid_repeated_ngrams(std::span<float> scores, std::span<const std::int32_t> history, int n) {
  const auto length = static_cast<std::ptrdiff_t>(history.size());
  if (n < 1 || length + 1 < n) return;
  const auto prefix = history.last(static_cast<std::size_t>(n - 1));
  for (std::ptrdiff_t begin = 0; begin + n <= length; ++begin)
    if (std::equal(prefix.begin(), prefix.end(), history.begin() + begin))
      scores[static_cast<std::size_t>(history[static_cast<std::size_t>(begin + n - 1)])] = kRemoved;
}

// exp(score - largest), and their sum; removed tokens weigh nothing.
std::vector<double> weights_of(const std::vector<Candidate>& candidates, double& sum) {
  float largest = kRemoved;
  for (const Candidate& candidate : candidates) largest = std::max(largest, candidate.score);
  std::vector<double> weights;
  weights.reserve(candidates.size());
  sum = 0.0;
  for (const Candidate& candidate : candidates) {
    weights.push_back(std::exp(static_cast<double>(candidate.score) - static_cast<double>(largest)));
    sum += weights.back();
  }
  return weights;
}

void keep_top_k(std::vector<Candidate>& candidates, std::int64_t k) {
  if (k < 1 || k >= static_cast<std::int64_t>(candidates.size())) return;
  std::vector<float> scores;
  scores.reserve(candidates.size());
  for (const Candidate& candidate : candidates) scores.push_back(candidate.score);
  std::nth_element(scores.begin(), scores.begin() + (k - 1), scores.end(), std::greater<>());
  const float least = scores[static_cast<std::size_t>(k - 1)];
  std::erase_if(candidates, [&](const Candidate& candidate) { return candidate.score < least; });
}

// Ascending: a token goes while all up to it hold at most 1 - p of the probability; the likeliest stays in
// any case. Of equals the higher id goes first (torch sorts equals in no particular order).
void keep_top_p(std::vector<Candidate>& candidates, double p) {
  if (p >= 1.0) return;
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score < b.score : a.id > b.id;
  });
  double sum = 0.0;
  const std::vector<double> weights = weights_of(candidates, sum);
  double below = 0.0;
  std::size_t removed = 0;
  while (removed + 1 < candidates.size()) {
    below += weights[removed] / sum;
    if (below > 1.0 - p) break;
    ++removed;
  }
  candidates.erase(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(removed));
}

void keep_min_p(std::vector<Candidate>& candidates, double p) {
  if (p <= 0.0) return;
  double sum = 0.0;
  const std::vector<double> weights = weights_of(candidates, sum);  // the likeliest weighs 1
  std::size_t kept = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i)
    if (weights[i] >= p) candidates[kept++] = candidates[i];
  candidates.resize(kept);
}

// Tokens whose surprise -log(p) is nearest to the distribution's entropy, until they hold `mass` of the
// probability.
void keep_typical(std::vector<Candidate>& candidates, double mass) {
  if (mass >= 1.0) return;
  double sum = 0.0;
  const std::vector<double> weights = weights_of(candidates, sum);
  struct Distance {
    double from_entropy, probability;
    Candidate candidate;
  };
  double entropy = 0.0;
  for (const double weight : weights)
    if (weight > 0.0) entropy -= weight / sum * std::log(weight / sum);
  std::vector<Distance> order;
  order.reserve(candidates.size());
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const double probability = weights[i] / sum;
    order.push_back({std::abs(-std::log(probability) - entropy), probability, candidates[i]});
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const Distance& a, const Distance& b) { return a.from_entropy < b.from_entropy; });
  std::size_t last = 0;
  double reached = order[0].probability;
  while (reached < mass && last + 1 < order.size()) reached += order[++last].probability;
  candidates.clear();
  for (const Distance& entry : order)
    if (entry.from_entropy <= order[last].from_entropy) candidates.push_back(entry.candidate);
}

std::int32_t draw(std::vector<Candidate>& candidates, double uniform) {
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  double sum = 0.0;
  const std::vector<double> weights = weights_of(candidates, sum);
  double reached = 0.0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    reached += weights[i];
    if (uniform * sum < reached) return candidates[i].id;
  }
  return candidates.back().id;  // rounding left a sliver above the last
}

}  // namespace

std::int32_t choose_token(std::span<float> scores, std::span<const std::int32_t> history,
                          const SamplingParams& params, double uniform) {
  (void)likeliest(scores);  // refuses NaN before a processor can hide it
  add_bias(scores, params);
  penalize_repetition(scores, history, params.repetition_penalty);
  forbid_repeated_ngrams(scores, history, params.no_repeat_ngram);
  if (!params.sample) return likeliest(scores);

  std::vector<Candidate> candidates;
  candidates.reserve(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] /= static_cast<float>(params.temperature);
    if (scores[i] != kRemoved) candidates.push_back({static_cast<std::int32_t>(i), scores[i]});
  }
  if (candidates.empty()) return likeliest(scores);  // everything is forbidden: the same answer as greedy
  keep_top_k(candidates, params.top_k);
  keep_top_p(candidates, params.top_p);
  keep_min_p(candidates, params.min_p);
  keep_typical(candidates, params.typical_p);
  return draw(candidates, uniform);
}

double uniform_of(std::uint64_t seed, std::uint64_t sequence, std::uint64_t step) {
  constexpr std::uint64_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  std::array<std::uint32_t, 4> x{static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(step >> 32),
                                 static_cast<std::uint32_t>(sequence),
                                 static_cast<std::uint32_t>(sequence >> 32)};
  auto key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiply0 * x[0], product1 = kMultiply1 * x[2];
    x = {static_cast<std::uint32_t>(product1 >> 32) ^ x[1] ^ key0, static_cast<std::uint32_t>(product1),
         static_cast<std::uint32_t>(product0 >> 32) ^ x[3] ^ key1, static_cast<std::uint32_t>(product0)};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  const std::uint64_t bits = (std::uint64_t{x[0]} << 32 | x[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace qtool
