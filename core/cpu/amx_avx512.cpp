// The direct product of bfloat16 operands on processors with AMX, for any number of tokens.
//
// AMX multiplies tiles: C [16 rows, 16 tokens] += A [16 rows, 32 columns] * B [32 columns, 16 tokens], exact
// products of bfloat16 added to float32 sums, denormals as 0. So a weight is decoded once for up to 64 tokens
// (four tiles C), and one token costs as much as sixteen.
//
// Codes become bfloat16 values by one permutation of 32 words (vpermw). Its index takes five bits; the
// codebook stands in the table twice, so that the fifth, a bit of the neighbouring nibble, does not matter:
//
//   32 bytes of codes -> 32 words ab   high nibbles  table[ab >> 4]  columns 0, 2, 4, ... 62  a row of tile A
//   "even"
//                                      low nibbles   table[ab]       columns 1, 3, 5, ... 63  a row of tile A
//                                      "odd"
//
// Tile B holds the tokens' values of the same columns in the order AMX wants: row i has, for each token, the
// values that belong to words 2i and 2i + 1 of a row of A.
#include "core/cpu/block4_avx512.h"

namespace qtool::cpu {

namespace {

constexpr int kUnit = 64;        // columns decoded at once: a row of two tiles A
constexpr int kRows = 16;        // of a tile A or C
constexpr int kGroup = 16;       // tokens of a tile B or C
constexpr int kGroups = 4;       // tiles C at a time
constexpr int kPanel = 4;        // units decoded before they are multiplied: 8 KB of tiles A
constexpr int kTileWords = 512;  // of a whole tile

// Few tokens are stored side by side; more than one tile of them fill up whole tiles.
std::int64_t padded(std::int64_t tokens) {
  return tokens <= kGroup ? tokens : (tokens + kGroup - 1) / kGroup * kGroup;
}

bool takes(const Block4Rows& weight) {
  return weight.compute == DType::kBF16 && weight.block_size % kUnit == 0 &&
         weight.in % weight.block_size == 0;
}

// words [groups][in / 64][even, odd][16][group's tokens][2]
void pack(const Block4Rows& weight, const float* x, std::int64_t tokens, std::int64_t first, std::int64_t end,
          float* out) {
  const std::int64_t width = padded(tokens) < kGroup ? padded(tokens) : kGroup;
  for (std::int64_t group = first; group < end; group += kGroup) {
    auto* words = reinterpret_cast<std::uint16_t*>(out) + group * weight.in;
    for (std::int64_t k = 0; k < weight.in; k += kUnit)
      for (int odd = 0; odd < 2; ++odd)
        for (int i = 0; i < kUnit / 4; ++i)
          for (std::int64_t t = group; t < group + width; ++t)
            for (int j = 0; j < 2; ++j) {
              std::uint32_t bits = 0;
              if (t < tokens)
                __builtin_memcpy(&bits, x + t * weight.in + k + 4 * i + 2 * j + odd, sizeof bits);
              *words++ = static_cast<std::uint16_t>(bits >> 16);
            }
  }
}

// The tile instructions do not tell the compiler that they read and write memory.
inline void order_memory() { asm volatile("" ::: "memory"); }

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// Tiles 0 to 3: C; 4 and 6: A; 5 and 7: B; whole groups of tokens make them all alike.
class Tiles {
 public:
  explicit Tiles(int tokens) {
    TileConfig config;
    for (int tile = 0; tile < 8; ++tile) {
      config.rows[tile] = 16;
      const bool is_a = tile == 4 || tile == 6;
      config.row_bytes[tile] = static_cast<std::uint16_t>(is_a ? 64 : 4 * tokens);
    }
    order_memory();
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// Decodes `units` units of 64 columns of one row, from column k on, into rows of tiles A.
//   tiles: of the row's place in the first tile
inline void decode(const std::uint8_t* codes, const float* scales, int block_shift, int unit, int units,
                   std::int64_t ahead, __m512 lut, std::uint16_t* tiles) {
  for (int u = 0; u < units; ++u, codes += kUnit / 2, tiles += 2 * kTileWords) {
    const __m512 scaled = _mm512_mul_ps(lut, _mm512_set1_ps(scales[(unit + u) >> block_shift]));
    const auto table = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(scaled, scaled));
    if (u % 2 == 0) _mm_prefetch(reinterpret_cast<const char*>(codes + ahead), _MM_HINT_T1);
    const __m512i pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
    _mm512_store_si512(tiles, _mm512_permutexvar_epi16(_mm512_srli_epi16(pairs, 4), table));
    _mm512_store_si512(tiles + kTileWords, _mm512_permutexvar_epi16(pairs, table));
  }
}

// A multiplication adds to its tile C for 52 cycles and starts every 16: one group of tokens takes turns with
// four tiles C, two with two each. `x`: of the first unit; a unit has 2 tiles B of 32 columns.
using UnitTiles = std::uint16_t[2][kTileWords];

inline void add_one_group(const UnitTiles* tiles, int units, const std::uint16_t* x, int width) {
  const int stride = 4 * width;
  const int words = 32 * width;
  for (int u = 0; u < units; u += 2, x += 4 * words) {
    _tile_loadd(4, tiles[u][0], 64);
    _tile_loadd(5, x, stride);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, tiles[u][1], 64);
    _tile_loadd(7, x + words, stride);
    _tile_dpbf16ps(1, 6, 7);
    if (u + 1 == units) break;
    _tile_loadd(4, tiles[u + 1][0], 64);
    _tile_loadd(5, x + 2 * words, stride);
    _tile_dpbf16ps(2, 4, 5);
    _tile_loadd(6, tiles[u + 1][1], 64);
    _tile_loadd(7, x + 3 * words, stride);
    _tile_dpbf16ps(3, 6, 7);
  }
}

inline void add_two_groups(const UnitTiles* tiles, int units, const std::uint16_t* x,
                           std::int64_t group_words) {
  for (int u = 0; u < units; ++u, x += 2 * kTileWords) {
    _tile_loadd(4, tiles[u][0], 64);
    _tile_loadd(5, x, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(7, x + group_words, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(6, tiles[u][1], 64);
    _tile_loadd(5, x + kTileWords, 64);
    _tile_dpbf16ps(2, 6, 5);
    _tile_loadd(7, x + kTileWords + group_words, 64);
    _tile_dpbf16ps(3, 6, 7);
  }
}

inline void add_groups(const UnitTiles* tiles, int units, const std::uint16_t* x, std::int64_t group_words,
                       int groups) {
  for (int u = 0; u < units; ++u) {
    for (int odd = 0; odd < 2; ++odd, x += kTileWords) {
      _tile_loadd(4, tiles[u][odd], 64);
      _tile_loadd(5, x, 64);
      _tile_dpbf16ps(0, 4, 5);
      _tile_loadd(6, x + group_words, 64);
      _tile_dpbf16ps(1, 4, 6);
      _tile_loadd(7, x + 2 * group_words, 64);
      _tile_dpbf16ps(2, 4, 7);
      if (groups < 4) continue;
      _tile_loadd(5, x + 3 * group_words, 64);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
}

// Sums of up to 16 rows with `groups` tiles of tokens. x: packed tokens of the first group
void multiply_rows(const Block4Rows& weight, std::int64_t row, int rows, const std::uint16_t* x, int groups,
                   int width, float (&sums)[kGroups][kRows * kGroup]) {
  alignas(64) std::uint16_t tiles[kPanel][2][kTileWords];
  alignas(64) float scales[kRows][kScalesBuffer];
  const __m512 lut = _mm512_loadu_ps(weight.lut);
  const std::int64_t units = weight.in / kUnit;
  const std::int64_t blocks = weight.in / weight.block_size;
  const std::int64_t row_bytes = weight.in / 2;
  const std::int64_t group_words = weight.in * width;
  const int block_shift = __builtin_ctz(static_cast<unsigned>(weight.block_size / kUnit));  // a power of two
  const std::int64_t step = std::int64_t{kScales} << block_shift;  // units whose scales are decoded at a time
  if (rows < kRows) __builtin_memset(tiles, 0, sizeof tiles);

  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::int64_t first = 0; first < units; first += step) {
    const std::int64_t end = units < first + step ? units : first + step;
    const std::int64_t block = first >> block_shift;
    for (int r = 0; r < rows; ++r)
      scales_of(weight, (row + r) * blocks + block, static_cast<int>((end - first) >> block_shift),
                scales[r]);
    for (std::int64_t unit = first; unit < end; unit += kPanel) {
      const int count = static_cast<int>(end - unit < kPanel ? end - unit : kPanel);
      for (int r = 0; r < rows; ++r)
        decode(weight.packed + (row + r) * row_bytes + unit * (kUnit / 2), scales[r], block_shift,
               static_cast<int>(unit - first), count, kRows * row_bytes, lut, &tiles[0][0][r * (kUnit / 2)]);
      order_memory();
      const std::uint16_t* b = x + unit * 2 * 32 * width;
      switch (groups) {
        case 1:
          add_one_group(tiles, count, b, width);
          break;
        case 2:
          add_two_groups(tiles, count, b, group_words);
          break;
        default:
          add_groups(tiles, count, b, group_words, groups);
          break;
      }
    }
  }
  _tile_stored(0, sums[0], 4 * kGroup);
  _tile_stored(1, sums[1], 4 * kGroup);
  _tile_stored(2, sums[2], 4 * kGroup);
  _tile_stored(3, sums[3], 4 * kGroup);
  order_memory();
  // Tiles that belong to the same tokens.
  for (int i = 0; i < kRows * kGroup; ++i) {
    if (groups == 1) sums[0][i] = (sums[0][i] + sums[2][i]) + (sums[1][i] + sums[3][i]);
    if (groups != 2) continue;
    sums[0][i] += sums[2][i];
    sums[1][i] += sums[3][i];
  }
}

void multiply(const Block4Rows& weight, std::int64_t begin, std::int64_t end, const float* x,
              std::int64_t tokens, float* out, std::int64_t out_stride) {
  const FlushToZero flush;
  const int groups = static_cast<int>((tokens + kGroup - 1) / kGroup);
  const int width = static_cast<int>(tokens < kGroup ? tokens : kGroup);
  const Tiles config(width);
  alignas(64) float sums[kGroups][kRows * kGroup];
  for (std::int64_t row = begin; row < end; row += kRows) {
    const int rows = static_cast<int>(end - row < kRows ? end - row : kRows);
    multiply_rows(weight, row, rows, reinterpret_cast<const std::uint16_t*>(x), groups, width, sums);
    for (std::int64_t t = 0; t < tokens; ++t)
      for (int r = 0; r < rows; ++r)
        out[t * out_stride + row + r] = sums[t / kGroup][r * kGroup + t % kGroup];
  }
}

}  // namespace

const Direct4Functions kAmxDirect4 = {
    .takes = takes,
    .least_tokens = 2,  // for one, float lanes decode faster: they need not store
    .most_tokens = INT64_MAX,
    .pass_tokens = kGroups * kGroup,
    .rounds_weights = true,
    .pack = pack,
    .multiply = multiply};

}  // namespace qtool::cpu
