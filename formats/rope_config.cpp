#include "formats/rope_config.h"

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"
#include "core/limits.h"

namespace qtool {
namespace {

constexpr const char* kWhat = "config.json: rope_parameters";

struct RopeName {
  std::string_view name;
  RopeType type;
};
constexpr std::array<RopeName, 7> kRopeNames{{{"default", RopeType::kDefault},
                                              {"linear", RopeType::kLinear},
                                              {"dynamic", RopeType::kDynamic},
                                              {"llama3", RopeType::kLlama3},
                                              {"yarn", RopeType::kYarn},
                                              {"longrope", RopeType::kLongRope},
                                              {"su", RopeType::kLongRope}}};  // its first name, in Phi-3

[[noreturn]] void malformed(const std::string& message) {
  throw Error(ExitCode::kMalformed, std::string(kWhat) + ": " + message);
}

RopeType type_of(const Json& parameters, bool only_longrope) {
  const char* key = parameters.contains("rope_type") ? "rope_type" : "type";
  const std::string name = optional_string(parameters, key, "default", kWhat);
  std::string known;
  for (const RopeName& row : kRopeNames) {
    if (row.name == name)
      return only_longrope && row.type == RopeType::kYarn ? RopeType::kLongRope : row.type;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(ExitCode::kUnsupported,
              std::string(kWhat) + ": rope type '" + escaped(name) + "' is not known; known are " + known);
}

// Angles are computed in float32: far beyond what models have they are no numbers, or all the same.
void check_range(const char* key, double value) {
  if (value > kMaxRopeNumber || value < 1.0 / kMaxRopeNumber)
    malformed(std::string("'") + key + "' is out of range");
}

// A number that is there and positive.
double positive(const Json& parameters, const char* key, double fallback) {
  const double value = optional_number(parameters, key, fallback, kWhat);
  if (std::isnan(value)) malformed(std::string("'") + key + "' is missing");
  if (!(value > 0.0)) malformed(std::string("'") + key + "' must be positive, is " + std::to_string(value));
  check_range(key, value);
  return value;
}
constexpr double kRequired = std::numeric_limits<double>::quiet_NaN();

// A positive number or nothing; 0 is nothing, as in Python's "if mscale".
std::optional<double> optional_positive(const Json& parameters, const char* key) {
  if (optional_number(parameters, key, 0.0, kWhat) == 0.0) return std::nullopt;
  return positive(parameters, key, kRequired);
}

std::vector<double> factors(const Json& parameters, const char* key, int rotary_dim) {
  std::vector<double> values = optional_numbers(parameters, key, kWhat);
  if (static_cast<int>(values.size()) != rotary_dim / 2)
    malformed(std::string("'") + key + "' must have " + std::to_string(rotary_dim / 2) +
              " numbers, half the rotating dimensions of a head; it has " + std::to_string(values.size()));
  for (const double value : values) {
    if (!(value > 0.0)) malformed(std::string("'") + key + "' must have positive numbers only");
    check_range(key, value);
  }
  return values;
}

// transformers 4 kept the parameters of every type but the default one in rope_scaling.
const Json& parameters_of(const Json& config) {
  static const Json kNone = Json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) continue;
    if (!found->is_object()) malformed("must be an object");
    if (!found->empty()) return *found;
  }
  return kNone;
}

// The context the model was trained with. Phi-3 has it outside the parameters, and then it comes first.
std::int64_t original_positions(const ConfigReader& config, const Json& parameters,
                                std::int64_t class_default, std::int64_t max_positions) {
  constexpr const char* kKey = "original_max_position_embeddings";
  const Json& holder = config.has({kKey}) ? config.json() : parameters;
  const std::int64_t absent = class_default ? class_default : max_positions;
  const std::int64_t value =
      class_default && !config.has({kKey}) ? absent : optional_int(holder, kKey, absent, kWhat);
  if (value < 1 || value > kMaxExtent)
    malformed("'original_max_position_embeddings' must be positive and at most " +
              std::to_string(kMaxExtent) + ", is " + std::to_string(value));
  return value;
}

void refuse_objects_in(const Json& parameters) {
  for (const auto& [key, value] : parameters.items())
    if (value.is_object())
      throw Error(ExitCode::kUnsupported, std::string(kWhat) + ": parameters of their own for '" +
                                              escaped(key) + "' layers are not supported");
}

int rotary_dim_of(double fraction, const RopeKeys& keys, int head_dim) {
  if (fraction > 1.0)
    malformed("'" + std::string(keys.fraction.name) + "' must not be above 1, is " +
              std::to_string(fraction));
  const auto rotary_dim = static_cast<int>(head_dim * fraction);
  if (rotary_dim != head_dim && !keys.partial)
    throw Error(ExitCode::kUnsupported, "config.json: '" + std::string(keys.fraction.name) + "' is " +
                                            std::to_string(fraction) +
                                            ", but models of this type rotate whole heads");
  if (rotary_dim < 2 || rotary_dim % 2 != 0)
    malformed("the rotating part of a head must have an even number of dimensions, has " +
              std::to_string(rotary_dim));
  return rotary_dim;
}

// The fields of rope.type, by `parameters`.
void read_scaling(const Json& parameters, std::int64_t max_positions, RopeSpec& rope) {
  const double ratio_of_lengths =
      static_cast<double>(max_positions) / static_cast<double>(rope.original_max_positions);
  switch (rope.type) {
    case RopeType::kDefault:
      break;
    case RopeType::kLinear:
    case RopeType::kDynamic:
      rope.factor = positive(parameters, "factor", kRequired);
      break;
    case RopeType::kLlama3:
      rope.factor = positive(parameters, "factor", kRequired);
      rope.low_freq_factor = positive(parameters, "low_freq_factor", kRequired);
      rope.high_freq_factor = positive(parameters, "high_freq_factor", kRequired);
      if (rope.low_freq_factor >= rope.high_freq_factor)
        malformed("'low_freq_factor' must be below 'high_freq_factor'");
      break;
    case RopeType::kYarn:
      rope.factor = positive(parameters, "factor", ratio_of_lengths);
      rope.beta_fast = positive(parameters, "beta_fast", 32.0);
      rope.beta_slow = positive(parameters, "beta_slow", 1.0);
      rope.truncate = optional_bool(parameters, "truncate", true, kWhat);
      rope.mscale = optional_positive(parameters, "mscale");
      rope.mscale_all_dim = optional_positive(parameters, "mscale_all_dim");
      rope.attention_factor = optional_positive(parameters, "attention_factor");
      break;
    case RopeType::kLongRope:
      for (const char* key : {"short_mscale", "long_mscale"})
        if (parameters.contains(key) && !parameters[key].is_null())
          throw Error(ExitCode::kUnsupported, std::string(kWhat) + ": '" + key +
                                                  "' is another scaling of longrope than the one known");
      rope.factor = positive(parameters, "factor", ratio_of_lengths);
      rope.attention_factor = optional_positive(parameters, "attention_factor");
      rope.short_factor = factors(parameters, "short_factor", rope.rotary_dim);
      rope.long_factor = factors(parameters, "long_factor", rope.rotary_dim);
      break;
  }
}

RopeSpec read_rope(const ConfigReader& config, const Json& parameters, const RopeKeys& keys, double theta,
                   const ModelSpec& spec) {
  refuse_objects_in(parameters);
  RopeSpec rope;
  rope.type = type_of(parameters, keys.only_longrope);
  rope.theta = positive(parameters, "rope_theta", theta);
  rope.rotary_dim = rotary_dim_of(
      positive(parameters, "partial_rotary_factor", config.positive(keys.fraction, keys.default_fraction)),
      keys, spec.head_dim);
  // Linear and dynamic scaling are against max_position_embeddings, whatever else the file says.
  const bool trained_shorter =
      rope.type == RopeType::kLlama3 || rope.type == RopeType::kYarn || rope.type == RopeType::kLongRope;
  rope.original_max_positions =
      trained_shorter ? original_positions(config, parameters, keys.original_positions, spec.max_positions)
                      : spec.max_positions;
  read_scaling(parameters, spec.max_positions, rope);
  return rope;
}

constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";

const Json& nested(const Json& parameters, const char* layer_type) {
  static const Json kNone = Json::object();
  const auto found = parameters.find(layer_type);
  if (found == parameters.end() || found->is_null()) return kNone;
  if (!found->is_object()) malformed(std::string("'") + layer_type + "' must be an object");
  return *found;
}

}  // namespace

RopeSpec rope_spec_of(const ConfigReader& config, const RopeKeys& keys, const ModelSpec& spec) {
  return read_rope(config, parameters_of(config.json()), keys, config.positive(keys.theta, spec.rope.theta),
                   spec);
}

void read_ropes_by_layer_type(const ConfigReader& config, ConfigKey local_theta, double local_theta_default,
                              ModelSpec& spec) {
  const RopeKeys keys;
  static const Json kNone = Json::object();
  const auto given = config.json().find("rope_parameters");
  const Json& parameters = given == config.json().end() || given->is_null() ? kNone : *given;
  if (!parameters.is_object()) malformed("must be an object");
  for (const auto& [key, value] : parameters.items())
    if (key != kFull && key != kSliding)
      throw Error(ExitCode::kUnsupported, std::string(kWhat) + ": '" + escaped(key) +
                                              "' stands beside the parameters of full_attention and "
                                              "sliding_attention layers, where transformers ignores it");
  Json full = nested(parameters, kFull);
  const auto scaling = config.json().find("rope_scaling");
  if (scaling != config.json().end() && !scaling->is_null()) {
    if (!scaling->is_object()) malformed("'rope_scaling' must be an object");
    full.update(*scaling);
  }
  const double theta = config.positive(keys.theta, spec.rope.theta);
  spec.local_rope = read_rope(config, nested(parameters, kSliding), keys,
                              config.positive(local_theta, local_theta_default), spec);
  spec.rope = read_rope(config, full, keys, theta, spec);
}

}  // namespace qtool
