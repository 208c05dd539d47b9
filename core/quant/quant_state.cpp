// The packed JSON that accompanies a 4-bit weight, spelled as Python's json.dumps spells it.
#include <charconv>
#include <cmath>
#include <cstddef>
#include <string>

#include "core/quant/weight.h"

namespace qtool {

namespace {

// An offset whose decimal has the usual length: 17 digits behind "0.0".
constexpr float kTypicalOffset = 0.052030738443136215f;

std::string json_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return python_repr(value);
}

}  // namespace

std::string python_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";

  // Shortest digits, as d.ddde±xx; Python then writes exponents from -4 to 15 positionally.
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view scientific(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = scientific.find('e');
  int exponent = 0;
  const char* digits_of_exponent = buffer + e + (scientific[e + 1] == '+' ? 2 : 1);
  std::from_chars(digits_of_exponent, end, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(scientific);

  std::string digits;
  for (const char c : scientific.substr(0, e))
    if (c >= '0' && c <= '9') digits += c;
  std::string out = std::signbit(value) ? "-" : "";
  if (exponent < 0) return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string quant_state_json(const Shape& shape, DType source_dtype, const QuantSpec& spec,
                             float nested_offset) {
  std::string json = "{\"quant_type\": \"" + std::string(code_name(spec.code)) +
                     "\", \"blocksize\": " + std::to_string(spec.block_size) + ", \"dtype\": \"" +
                     std::string(info(source_dtype).torch_name) + "\", \"shape\": [";
  for (std::size_t i = 0; i < shape.size(); ++i) json += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  json += "]";
  if (spec.nested)
    json += ", \"nested_blocksize\": " + std::to_string(kNestedBlockSize) +
            ", \"nested_dtype\": \"float32\", \"nested_offset\": " + json_number(double{nested_offset});
  return json + "}";
}

std::int64_t typical_quant_state_bytes(const Shape& shape, DType source_dtype, const QuantSpec& spec) {
  return static_cast<std::int64_t>(quant_state_json(shape, source_dtype, spec, kTypicalOffset).size());
}

}  // namespace qtool
