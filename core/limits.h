// What a stranger's file may ask of this program at most. Each bound lies far above what real models need
// (the figure beside it) and far below what would hurt; a file beyond one is refused as malformed before
// memory or time is spent on it. Bounds that are tied to a file's own size (offsets, counts of pieces) are no
// constants and are checked where they are read; those on the Hub's answers stand beside their readers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qtool {

// --- JSON. A value takes 16 to 160 bytes in memory, however short its text: the sum is bounded beside the
// text, as near to Gemma's tokenizer as it is to keep a run on a malformed file of some megabytes within 200
// MB.
inline constexpr int kMaxJsonDepth = 64;                                   // tokenizer.json: 8
inline constexpr std::int64_t kMaxJsonTokenBytes = std::int64_t{4} << 20;  // one string; a template: 20 kB
inline constexpr std::int64_t kMaxJsonBytes = std::int64_t{4} << 20;       // config.json and its like: 1 MB
inline constexpr std::int64_t kMaxJsonMemory = 64'000'000;  // a config with 20,000 class labels: 6 MB
inline constexpr std::int64_t kMaxIndexBytes = std::int64_t{64} << 20;      // of 210,000 tensors: 25 MB
inline constexpr std::int64_t kMaxIndexMemory = 155'000'000;                // 61 MB
inline constexpr std::int64_t kMaxTokenizerBytes = std::int64_t{64} << 20;  // Gemma's tokenizer.json: 33 MB
inline constexpr std::int64_t kMaxTokenizerMemory = 155'000'000;  // 262,000 tokens and 515,000 merges: 141 MB

// --- Files of tensors
inline constexpr std::int64_t kMaxHeaderBytes = 100'000'000;   // of safetensors: the format's own bound
inline constexpr std::int64_t kMaxHeaderMemory = 120'000'000;  // some 750 bytes a tensor: 160,000 in one file
inline constexpr std::int64_t kMaxTensors = 1'000'000;  // of all shards; the largest known have 210,000
inline constexpr std::int64_t kMaxShards = 4096;        // 200
inline constexpr std::size_t kMaxShardNameBytes = 255;  // what file systems take
inline constexpr std::size_t kMaxNameBytes = 512;       // of a tensor: 120
inline constexpr std::int64_t kMaxDimensions = 64;      // of a tensor: torch's own bound
inline constexpr std::int64_t kMaxExtent = std::int64_t{1}
                                           << 31;  // of a tensor: products of two do not overflow
// pytorch_model.bin: the directory takes some 60 bytes a tensor and the pickle some 150, which a hostile one
// makes 50 times as many in memory.
inline constexpr std::int64_t kMaxDirectoryBytes = std::int64_t{16} << 20;
inline constexpr std::int64_t kMaxPickleBytes = 4'000'000;
inline constexpr std::int64_t kMaxQuantStateBytes = 4096;  // bitsandbytes writes some 170

// --- Models
inline constexpr int kMaxLayers = 1 << 16;                          // of layers, heads and experts; 512
inline constexpr std::int64_t kMaxExperts = std::int64_t{1} << 20;  // of all layers together; 24,000
inline constexpr std::size_t kMaxSpecialIds = 1024;                 // of tokens that end a text; 5
inline constexpr double kMaxRopeNumber = 1e12;  // of thetas, factors and their inverses; 5e10

// --- Tokenizers
inline constexpr std::int64_t kMaxVocabularyBytes = std::int64_t{64}
                                                    << 20;  // the other forms of a vocabulary: 5 MB
inline constexpr std::size_t kMaxTokens = 2'000'000;        // 262,000
inline constexpr std::size_t kMaxMerges = 2'000'000;        // 515,000
inline constexpr std::size_t kMaxTokenBytes = 4096;         // of one token: 256
// Tables of tokens and merges are probed some 1.5 times an entry; ids chosen to collide would take quadratic
// time.
inline constexpr std::size_t kMaxProbesPerEntry = 8;
inline constexpr std::size_t kMaxTokenizerSteps = 64;  // of normalizers, pre-tokenizers, decoders: 6
inline constexpr std::size_t kMaxStepBytes = 4096;     // of what a step adds to a text: 3
inline constexpr std::size_t kMaxNestedPieces = 64;    // of sentencepiece: where its library stops looking
inline constexpr std::size_t kMaxPatternBytes = std::size_t{64} << 10;  // of a regular expression: 300
inline constexpr int kMaxPatternDepth = 32;
// PCRE2 counts backtracking steps. A run of spaces may cost a step a byte, so the bound of one match grows
// with the text; exponential patterns meet it within a fraction of a second. Many matches, each within its
// bound, can still take quadratic time: a clock bounds their sum. Real patterns need about 0.02 us a byte.
inline constexpr std::size_t kMaxPatternSteps = 10'000'000;
inline constexpr std::size_t kMaxPatternStepsPerByte = 8;
inline constexpr double kMaxPatternSeconds = 1.0;
inline constexpr double kMaxPatternSecondsPerByte = 2e-6;
// What normalizing may make of a text: whatever is larger, of these.
inline constexpr std::size_t kMaxNormalizedBytes = std::size_t{32} << 20;
inline constexpr std::size_t kMaxNormalizedPerByte = 16;

// --- Chat templates. Time and memory are bounded by what a template does, not by a clock: the same template
// fails on every machine or on none.
inline constexpr std::size_t kMaxTemplateBytes = std::size_t{1} << 20;  // 20 kB
inline constexpr std::int64_t kMaxConversationBytes = std::int64_t{64} << 20;
inline constexpr int kMaxTreeDepth = 200;  // brackets in brackets, blocks in blocks, a + b + c + ...
inline constexpr int kMaxCallDepth = 800;  // nodes within nodes while rendering, macro calls included
inline constexpr std::int64_t kMaxTemplateSteps = 10'000'000;           // evaluated nodes and walked items
inline constexpr std::int64_t kMaxMadeBytes = std::int64_t{128} << 20;  // all strings and lists together
inline constexpr std::int64_t kMaxOutputBytes = std::int64_t{64} << 20;
inline constexpr std::int64_t kMaxRange = 100'000;  // of range(): as Jinja's sandbox
inline constexpr int kMaxValueDepth = 128;          // lists in lists
inline constexpr std::int64_t kMaxValueParts = 4'000'000;
inline constexpr int kMaxFormatWidth = 10'000;
inline constexpr std::size_t kMaxReprBytes = std::size_t{64} << 20;

}  // namespace qtool
