#include "core/cpu/quantize_tables.h"

#include <limits>

#include "core/quant/codebook.h"

namespace qtool {

namespace {

constexpr double kCellsPerUnit = 15.0;

constexpr CellTable cells_of(const Codebook4& book) {
  CellTable table{};
  for (int k = -16; k < 16; ++k) {
    const double low = (k - 0.5) / kCellsPerUnit;
    const double high = (k + 0.5) / kCellsPerUnit;
    int rank = 0;  // thresholds below the cell
    while (rank < book.threshold_count && static_cast<double>(book.thresholds[rank]) < low) ++rank;
    const bool inside = rank < book.threshold_count && static_cast<double>(book.thresholds[rank]) < high;
    const int index = k & 31;
    table.threshold[index] = inside ? book.thresholds[rank] : std::numeric_limits<float>::infinity();
    table.below[index] = book.codes[rank];
    table.above[index] = inside ? book.codes[rank + 1] : book.codes[rank];
  }
  return table;
}

constexpr bool at_most_one_threshold_per_cell(const Codebook4& book) {
  for (int i = 1; i < book.threshold_count; ++i)
    if (static_cast<double>(book.thresholds[i]) - static_cast<double>(book.thresholds[i - 1]) <=
        1.0 / kCellsPerUnit)
      return false;
  return true;
}
static_assert(at_most_one_threshold_per_cell(kNf4Codebook) && at_most_one_threshold_per_cell(kFp4Codebook));

constexpr SearchTree tree_of(const Codebook4& book) {
  SearchTree tree{};
  float* levels[4] = {tree.level0, tree.level1, tree.level2, tree.level3};
  const int depth = book.threshold_count == 15 ? 4 : 3;
  for (int level = 0; level < depth; ++level) {
    const int step = 16 >> (4 - depth) >> level;  // distance of neighbours on this level, in thresholds
    for (int i = 0; i < 1 << level; ++i) levels[level][i] = book.thresholds[i * step + step / 2 - 1];
  }
  for (int rank = 0; rank < 8; ++rank) tree.code[rank] = book.codes[rank];
  return tree;
}

}  // namespace

constinit const CellTable kNf4Cells = cells_of(kNf4Codebook);
constinit const CellTable kFp4Cells = cells_of(kFp4Codebook);
constinit const SearchTree kNf4Tree = tree_of(kNf4Codebook);
constinit const SearchTree kFp4Tree = tree_of(kFp4Codebook);

}  // namespace qtool
