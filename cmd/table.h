// Aligned columns for people. Cells are UTF-8; a column is as wide as its widest cell.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qtool {

enum class Align { kLeft, kRight };

class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<std::string> cells);  // one per column
  bool empty() const { return rows_.empty(); }

  // Lines of two-space separated columns, each line indented by `indent`; no title line if every title is
  // empty.
  std::string text(int indent = 0) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "1,234,567"
std::string grouped(std::int64_t number);
// Six significant digits: "0.0123457", "-3.1e-08", "nan".
std::string shortened(double value);

}  // namespace qtool
