#include "core/model/alibi.h"

#include <bit>
#include <cmath>

#include "core/float16.h"

namespace qtool {
namespace {

// float32 power, correctly rounded: through float64.
float power(float base, float exponent) {
  return static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
}

// The first powers of 2^(-8/n) for the largest power of two n <= heads; the heads beyond n take the odd
// powers of 2^(-4/n), which lie between those.
std::vector<float> bloom_slopes(unsigned heads) {
  const unsigned whole = std::bit_floor(heads);
  const auto base = static_cast<float>(std::exp2(-8.0 / whole));
  const auto between = static_cast<float>(std::exp2(-4.0 / whole));
  std::vector<float> slopes;
  for (unsigned i = 0; i < whole; ++i) slopes.push_back(power(base, static_cast<float>(i + 1)));
  for (unsigned i = 0; i < heads - whole; ++i)
    slopes.push_back(power(between, static_cast<float>(2 * i + 1)));
  return slopes;
}

// Powers of 2^(-8/n) for the smallest power of two n >= heads. Where n is not `heads`, every second of them
// comes first, then the others, as far as there are heads.
std::vector<float> mpt_slopes(unsigned heads) {
  const unsigned whole = std::bit_ceil(heads);
  const auto step = static_cast<float>(8.0 / whole);
  std::vector<float> series;
  for (unsigned i = 0; i < whole; ++i) series.push_back(1.0f / power(2.0f, static_cast<float>(i + 1) * step));
  if (whole == heads) return series;
  std::vector<float> slopes;
  for (unsigned i = 1; i < whole; i += 2) slopes.push_back(series[i]);
  for (unsigned i = 0; slopes.size() < heads; i += 2) slopes.push_back(series[i]);
  return slopes;
}

}  // namespace

std::vector<float> alibi_slopes(const ModelSpec& spec) {
  const auto heads = static_cast<unsigned>(spec.heads);
  if (spec.alibi == Alibi::kMpt) return mpt_slopes(heads);
  std::vector<float> slopes = bloom_slopes(heads);
  if (spec.alibi == Alibi::kFalcon)
    for (float& slope : slopes) slope = round_to_bf16(slope);
  return slopes;
}

}  // namespace qtool
