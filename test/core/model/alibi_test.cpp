// ALiBi slopes against transformers 5.23 (build_alibi_tensor of BLOOM and Falcon, build_mpt_alibi_tensor).
#include "core/model/alibi.h"

#include <catch2/catch.hpp>

using namespace qtool;

namespace {

std::vector<float> slopes(Alibi kind, int heads) {
  ModelSpec spec;
  spec.alibi = kind;
  spec.heads = heads;
  return alibi_slopes(spec);
}

}  // namespace

TEST_CASE("for a power of two of heads all kinds have the slopes of the paper") {
  for (const Alibi kind : {Alibi::kBloom, Alibi::kMpt, Alibi::kFalcon}) {
    CHECK(slopes(kind, 4) == std::vector<float>{0x1p-2f, 0x1p-4f, 0x1p-6f, 0x1p-8f});
    CHECK(slopes(kind, 1) == std::vector<float>{0x1p-8f});
  }
}

TEST_CASE("heads beyond a power of two take slopes between") {
  const std::vector<float> six{0.25f, 0.0625f, 0.015625f, 0.00390625f, 0.5f, 0.125f};
  CHECK(slopes(Alibi::kBloom, 6) == six);
  CHECK(slopes(Alibi::kMpt, 6) == six);  // the same set in the same order, for another reason
  CHECK(slopes(Alibi::kFalcon, 6) == six);

  // 71 heads, as Falcon 7B has: first, second, eighth, last but one, last.
  const auto some = [](const std::vector<float>& all) {
    REQUIRE(all.size() == 71);
    return std::vector<float>{all[0], all[1], all[7], all[69], all[70]};
  };
  const std::vector<float> expected{0.917004049f, 0.840896428f, 0.5f, 0.620928884f, 0.56939429f};
  for (const Alibi kind : {Alibi::kBloom, Alibi::kMpt}) {
    const std::vector<float> found = some(slopes(kind, 71));
    for (std::size_t i = 0; i < expected.size(); ++i) CHECK(found[i] == Approx(expected[i]).epsilon(3e-7));
  }
  CHECK(some(slopes(Alibi::kFalcon, 71)) ==
        std::vector<float>{0.91796875f, 0.83984375f, 0.5f, 0.62109375f, 0.5703125f});
}
