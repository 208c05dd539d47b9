// Rotary embeddings in the families' own spellings; Llama's are in architectures_test.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/architectures.h"
#include "test/support/family_config.h"

using namespace qtool;

namespace {

ModelSpec spec_of(const std::string& sample, const std::string& changes = "{}") {
  return model_spec_of(test::family_config(sample, changes));
}

RopeSpec rope_of(const std::string& sample, const std::string& changes = "{}") {
  return spec_of(sample, changes).rope;
}

}  // namespace

TEST_CASE("the rotating part of a head") {
  CHECK(rope_of("phi").rotary_dim == 4);
  CHECK(rope_of("phi", R"({"rope_parameters": "absent", "partial_rotary_factor": 0.25})").rotary_dim == 2);
  CHECK(rope_of("phi", R"({"rope_parameters": "absent"})").rotary_dim == 4);
  CHECK(rope_of("nemotron", R"({"rope_parameters": "absent"})").rotary_dim == 4);
  CHECK(rope_of("stablelm", R"({"rope_parameters": "absent"})").rotary_dim == 2);
  // the parameters' own comes first
  CHECK(
      rope_of("phi", R"({"rope_parameters": {"partial_rotary_factor": 0.25}, "partial_rotary_factor": 1.0})")
          .rotary_dim == 2);
  CHECK(rope_of("gptj", R"({"rotary_dim": 2})").rotary_dim == 2);
}

TEST_CASE("GPT-NeoX's spellings") {
  const RopeSpec rope =
      rope_of("gpt_neox", R"({"rope_parameters": "absent", "rotary_pct": 0.5, "rotary_emb_base": 500})");
  CHECK(rope.rotary_dim == 8);
  CHECK(rope.theta == 500.0);
  const RopeSpec defaults = rope_of("gpt_neox", R"({"rope_parameters": "absent"})");
  CHECK(defaults.rotary_dim == 4);
  CHECK(defaults.theta == 10000.0);
}

TEST_CASE("Phi-3: su and yarn are longrope, the original length stands outside") {
  const std::string factors = R"("short_factor": [1.0, 1.1, 1.3], "long_factor": [1.0, 2.5, 4.0])";
  for (const char* name : {"su", "yarn", "longrope"}) {
    INFO(name);
    const std::string scaling = R"("rope_scaling": {"type": ")" + std::string(name) + "\", " + factors + "}";
    const RopeSpec rope = rope_of("phi3_longrope", R"({"rope_parameters": "absent", )" + scaling + "}");
    CHECK(rope == rope_of("phi3_longrope"));
    CHECK(rope.original_max_positions == 16);
    CHECK(rope.factor == 4.0);
    // absent, it is that of the class, whatever the parameters say
    CHECK(rope_of("phi3_longrope", R"({"original_max_position_embeddings": "absent"})")
              .original_max_positions == 4096);
  }
}

TEST_CASE("tables of their own for sliding layers") {
  const ModelSpec nested = spec_of("gemma3_text");
  CHECK(nested.rope.type == RopeType::kLinear);
  CHECK(nested.rope.theta == 1e5);
  CHECK(nested.rope.factor == 4.0);
  REQUIRE(nested.local_rope);
  CHECK(nested.local_rope->type == RopeType::kDefault);
  CHECK(nested.local_rope->theta == 1e3);
  const ModelSpec flat = spec_of("gemma3_text", R"({"rope_parameters": "absent", "rope_theta": 1e5,
      "rope_local_base_freq": 1e3, "rope_scaling": {"rope_type": "linear", "factor": 4.0}})");
  CHECK(flat == nested);
  const ModelSpec defaults = spec_of("gemma3_text", R"({"rope_parameters": "absent"})");
  CHECK(defaults.rope.theta == 1e6);
  CHECK(defaults.local_rope->theta == 1e4);
  const ModelSpec half = spec_of("gemma3_text", R"({"rope_parameters": {"sliding_attention": null,
      "full_attention": {"rope_type": "default"}}, "rope_theta": 7e5})");
  CHECK(half.rope.theta == 7e5);
  CHECK(half.local_rope->theta == 1e4);
}

TEST_CASE("rotary embeddings that cannot be, or cannot be computed, are refused") {
  struct Row {
    const char* sample;
    const char* changes;
    ExitCode code;
    const char* named;
  };
  constexpr ExitCode kBad = ExitCode::kMalformed, kUnknown = ExitCode::kUnsupported;
  const Row rows[] = {
      {"mistral", R"({"partial_rotary_factor": 0.5})", kUnknown, "rotate whole heads"},
      {"falcon_7b", R"({"rope_parameters": {"partial_rotary_factor": 0.5}})", kUnknown, "rotate whole heads"},
      {"phi", R"({"rope_parameters": {"partial_rotary_factor": 0.4}})", kBad, "even"},
      {"phi", R"({"rope_parameters": {"partial_rotary_factor": 1.5}})", kBad, "partial_rotary_factor"},
      {"phi", R"({"rope_parameters": {"partial_rotary_factor": 0.01}})", kBad, "even"},
      {"gpt_neox", R"({"rope_parameters": "absent", "rotary_pct": -1})", kBad, "rotary_pct"},
      {"gpt_neox", R"({"rope_parameters": "absent", "rotary_emb_base": 0})", kBad, "rotary_emb_base"},
      {"phi3_longrope",
       R"({"rope_parameters": {"rope_type": "longrope", "partial_rotary_factor": 0.75,
           "short_factor": [1, 1, 1], "long_factor": [1, 1, 1], "short_mscale": 1.2, "long_mscale": 1.3}})",
       kUnknown, "short_mscale"},
      {"phi3_longrope",
       R"({"rope_parameters": {"rope_type": "longrope", "short_factor": [1, 1, 1], "long_factor": [1, 1, 1]},
           "partial_rotary_factor": "absent"})",
       kBad, "short_factor"},
      {"phi3", R"({"original_max_position_embeddings": 0, "rope_parameters": {"rope_type": "longrope"}})",
       kBad, "original_max_position_embeddings"},
      {"qwen2", R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})", kUnknown,
       "full_attention"},
      {"gemma3_text", R"({"rope_parameters": {"full_attention": 3}})", kBad, "full_attention"},
      {"gemma3_text", R"({"rope_parameters": {"chunked_attention": {"rope_type": "default"}}})", kUnknown,
       "chunked_attention"},
      {"gemma3_text", R"({"rope_parameters": "absent", "rope_local_base_freq": -1})", kBad,
       "rope_local_base_freq"},
      {"gemma3_text", R"({"rope_scaling": 3})", kBad, "rope_scaling"},
      {"gemma3_text", R"({"rope_scaling": {"rope_type": "proportional"}})", kUnknown, "proportional"},
  };
  for (const Row& row : rows) {
    INFO(row.sample << ": " << row.changes);
    std::string message;
    ExitCode code = ExitCode::kOk;
    try {
      spec_of(row.sample, row.changes);
    } catch (const Error& error) {
      code = error.code();
      message = error.what();
    }
    CAPTURE(message);
    CHECK(code == row.code);
    CHECK(message.find(row.named) != std::string::npos);
  }
}
