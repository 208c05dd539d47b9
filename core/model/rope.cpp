#include "core/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qtool {
namespace {

// float32 power, correctly rounded: through float64.
float power(float base, float exponent) {
  return static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
}

// base^(2i / dim) for i < dim / 2: the wavelengths / 2 pi.
std::vector<float> wavelengths(float base, int dim) {
  std::vector<float> out(static_cast<std::size_t>(dim / 2));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = power(base, static_cast<float>(2 * i) / static_cast<float>(dim));
  return out;
}

std::vector<float> plain_frequencies(float base, int dim) {
  std::vector<float> out = wavelengths(base, dim);
  for (float& value : out) value = 1.0f / value;
  return out;
}

// "NTK-aware": a larger base stretches low frequencies and leaves high ones; it grows with the sequence.
// transformers holds the length in an integer tensor, which makes this chain float32.
float dynamic_base(const RopeSpec& rope, std::int64_t max_positions, std::int64_t length) {
  if (length <= max_positions) return static_cast<float>(rope.theta);
  const double dim = rope.rotary_dim;
  float stretch = static_cast<float>(length) * static_cast<float>(rope.factor);
  stretch = stretch / static_cast<float>(max_positions) - static_cast<float>(rope.factor - 1.0);
  return power(stretch, static_cast<float>(dim / (dim - 2.0))) * static_cast<float>(rope.theta);
}

// Llama 3.1: wavelengths longer than the training context / low_freq_factor are stretched by `factor`,
// shorter than context / high_freq_factor are kept, those between are blended.
void scale_llama3(const RopeSpec& rope, std::vector<float>& inv_freq) {
  const double context = static_cast<double>(rope.original_max_positions);
  const float longest_kept = static_cast<float>(context / rope.high_freq_factor);
  const float shortest_stretched = static_cast<float>(context / rope.low_freq_factor);
  const float factor = static_cast<float>(rope.factor);
  const float low = static_cast<float>(rope.low_freq_factor);
  const float range = static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
  for (float& value : inv_freq) {
    // torch divides a number by a tensor as number * (1 / tensor), rounding twice.
    const float wavelength = 1.0f / value * static_cast<float>(2.0 * std::numbers::pi);
    if (wavelength > shortest_stretched) {
      value = value / factor;
    } else if (!(wavelength < longest_kept)) {
      const float smooth = (1.0f / wavelength * static_cast<float>(context) - low) / range;
      value = (1.0f - smooth) * value / factor + smooth * value;
    }
  }
}

// YaRN: dimensions that turn more than beta_fast times over the training context keep their frequency, those
// that turn less than beta_slow times are stretched by `factor`, a linear ramp over the dimensions lies
// between.
std::vector<float> yarn_frequencies(const RopeSpec& rope) {
  const double dim = rope.rotary_dim;
  const auto dimension_turning = [&](double turns) {
    return dim *
           std::log(static_cast<double>(rope.original_max_positions) / (turns * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(rope.theta));
  };
  double first = dimension_turning(rope.beta_fast);
  double last = dimension_turning(rope.beta_slow);
  if (rope.truncate) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, dim - 1.0);
  if (first == last) last += 0.001;  // as transformers: no division by zero

  std::vector<float> out = wavelengths(static_cast<float>(rope.theta), rope.rotary_dim);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const float kept = 1.0f / out[i];
    const float stretched = 1.0f / (static_cast<float>(rope.factor) * out[i]);
    const float ramp = (static_cast<float>(i) - static_cast<float>(first)) / static_cast<float>(last - first);
    const float keep = 1.0f - std::clamp(ramp, 0.0f, 1.0f);
    out[i] = stretched * (1.0f - keep) + kept * keep;
  }
  return out;
}

double yarn_attention_factor(const RopeSpec& rope) {
  const auto magnitude = [&](double mscale) {
    return rope.factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(rope.factor) + 1.0;
  };
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.mscale.value_or(0.0) != 0.0 && rope.mscale_all_dim.value_or(0.0) != 0.0)
    return magnitude(*rope.mscale) / magnitude(*rope.mscale_all_dim);
  return magnitude(1.0);
}

double longrope_attention_factor(const RopeSpec& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.factor <= 1.0) return 1.0;
  return std::sqrt(1.0 + std::log(rope.factor) / std::log(static_cast<double>(rope.original_max_positions)));
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeSpec& rope, std::int64_t max_positions, std::int64_t length) {
  const float theta = static_cast<float>(rope.theta);
  RopeFrequencies out;
  switch (rope.type) {
    case RopeType::kDefault:
      out.inv_freq = plain_frequencies(theta, rope.rotary_dim);
      break;
    case RopeType::kLinear:
      out.inv_freq = plain_frequencies(theta, rope.rotary_dim);
      for (float& value : out.inv_freq) value /= static_cast<float>(rope.factor);
      break;
    case RopeType::kDynamic:
      out.inv_freq = plain_frequencies(dynamic_base(rope, max_positions, length), rope.rotary_dim);
      break;
    case RopeType::kLlama3:
      out.inv_freq = plain_frequencies(theta, rope.rotary_dim);
      scale_llama3(rope, out.inv_freq);
      break;
    case RopeType::kYarn:
      out.inv_freq = yarn_frequencies(rope);
      out.scaling = static_cast<float>(yarn_attention_factor(rope));
      break;
    case RopeType::kLongRope: {
      const std::vector<double>& stretch =
          length > rope.original_max_positions ? rope.long_factor : rope.short_factor;
      out.inv_freq = wavelengths(theta, rope.rotary_dim);
      for (std::size_t i = 0; i < out.inv_freq.size(); ++i)
        out.inv_freq[i] = 1.0f / (static_cast<float>(stretch[i]) * out.inv_freq[i]);
      out.scaling = static_cast<float>(longrope_attention_factor(rope));
      break;
    }
  }
  return out;
}

bool uses_rope(const ModelSpec& spec, LayerRope rope) {
  for (int i = 0; i < spec.layers; ++i)
    if (spec.layer(i).rope == rope) return true;
  return false;
}

bool rope_depends_on_length(const RopeSpec& rope) {
  return rope.type == RopeType::kDynamic || rope.type == RopeType::kLongRope;
}

bool rope_invalidates_cache(const RopeSpec& rope, std::int64_t before, std::int64_t after) {
  return rope.type == RopeType::kLongRope && before > 0 && before <= rope.original_max_positions &&
         after > rope.original_max_positions;
}

void rope_table(const RopeFrequencies& frequencies, std::int64_t first_position, std::span<float> cos,
                std::span<float> sin) {
  const std::size_t pairs = frequencies.inv_freq.size();
  for (std::size_t i = 0; i < cos.size(); ++i) {
    const auto position = static_cast<float>(first_position + static_cast<std::int64_t>(i / pairs));
    // The product is rounded to float32, its cosine is exact for that angle.
    const double angle = static_cast<double>(position * frequencies.inv_freq[i % pairs]);
    cos[i] = static_cast<float>(std::cos(angle)) * frequencies.scaling;
    sin[i] = static_cast<float>(std::sin(angle)) * frequencies.scaling;
  }
}

}  // namespace qtool
