// The pictures of qtool's reports, each drawn into an Svg below `top`; they return where they end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cmd/svg.h"

namespace qtool {

inline constexpr double kChartWidth = 960;  // of a report, margins included
inline constexpr double kChartMargin = 32;

// A report's head: what it is about, and some lines on it.
double draw_heading(Svg& svg, const std::string& title, const std::vector<std::string>& lines);

// Horizontal bars, in proportion to the largest. `before` draws a pale bar behind: what it was.
struct Bar {
  std::string label;
  std::int64_t value = 0;
  std::int64_t before = -1;  // negative: nothing
  std::string note;          // at the bar's right
};
double draw_bars(Svg& svg, double top, const std::string& title, const std::vector<Bar>& bars);

// A number for every kind (row) and layer (column) as a colour; NaN where there is none. Worse is darker;
// what is infinite is red.
struct HeatMap {
  std::vector<std::string> kinds;
  std::vector<std::string> layers;
  std::vector<std::vector<double>> values;  // [kinds][layers]
};
double draw_heat_map(Svg& svg, double top, const std::string& title, const HeatMap& map);

}  // namespace qtool
