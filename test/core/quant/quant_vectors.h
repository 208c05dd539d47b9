// test/data/quant_vectors.txt: what the real software answered. scripts/make_quant_vectors explains the
// records.
#pragma once

#include <bit>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "test/support/paths.h"

namespace qtool::test {

// The words behind `kind` of every such record.
inline std::vector<std::vector<std::string>> vectors_of(const std::string& kind) {
  std::ifstream file(data("quant_vectors.txt"));
  std::vector<std::vector<std::string>> records;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    words >> first;
    if (first != kind) continue;
    records.emplace_back();
    for (std::string word; words >> word;) records.back().push_back(word);
  }
  return records;
}

inline float float_from_hex(const std::string& word) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(std::stoul(word, nullptr, 16)));
}

// Bits of a float; one pattern for every NaN, whose payload nobody promises.
inline std::uint32_t bits_of(float value) {
  return value != value ? 0x7fc00000u : std::bit_cast<std::uint32_t>(value);
}

// The generator of the measured means.
inline float test_mean_value(std::uint64_t i) {
  auto h = static_cast<std::uint32_t>(i * 2654435761u + 12345u);
  h = (h ^ (h >> 15)) * 2246822519u;
  h = (h ^ (h >> 13)) * 3266489917u;
  h ^= h >> 16;
  const float unit = static_cast<float>(h >> 8) * 0x1p-24f;
  const float scaled = unit * 0.2f;
  return scaled + 0.01f;
}

// The generator of the digests.
inline float test_value(std::uint32_t i) {
  std::uint32_t h = i * 2654435761u + 12345u;
  h = (h ^ (h >> 15)) * 2246822519u;
  h = (h ^ (h >> 13)) * 3266489917u;
  h ^= h >> 16;
  const int exponent = -23 + static_cast<int>(i / 64 * 7 % 21) - 14;
  return static_cast<float>(static_cast<std::int32_t>(h >> 8) - 8388608) *
         std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
}

}  // namespace qtool::test
