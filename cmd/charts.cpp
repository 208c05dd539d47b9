#include "cmd/charts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

namespace qtool {
namespace {

constexpr double kLabels = 260;  // columns of names, at the left
constexpr double kLeft = kChartMargin + kLabels;
constexpr double kRow = 24;
constexpr std::string_view kBlue = "#2b6cb0", kPale = "#d9e2ec", kGrey = "#6b7280", kRed = "#c53030";

std::string shown(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%#.3g", value);
  return text;
}

// From pale to dark blue as `share` goes from 0 to 1.
std::string shade(double share) {
  constexpr std::array<double, 3> kLight{226, 236, 247}, kDark{12, 52, 104};
  char text[8];
  const auto mix = [share](double from, double to) {
    return static_cast<int>(std::lround(from + share * (to - from)));
  };
  std::snprintf(text, sizeof text, "#%02x%02x%02x", mix(kLight[0], kDark[0]), mix(kLight[1], kDark[1]),
                mix(kLight[2], kDark[2]));
  return text;
}

void draw_title(Svg& svg, double y, const std::string& title) {
  svg.text(kChartMargin, y, title, {.size = 14, .bold = true});
}

void draw_label(Svg& svg, double baseline, const std::string& label) {
  svg.text(kLeft - 10, baseline, fitted(label, kLabels - 10, 11), {.size = 11, .anchor = Anchor::kEnd});
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  double share(double value) const { return high > low ? (value - low) / (high - low) : 0.5; }
};

void draw_scale(Svg& svg, double y, const Range& range) {
  constexpr int kSteps = 40;
  constexpr double kWidth = 160, kHeight = 10;
  const double x = kChartWidth - kChartMargin - kWidth - 60;
  for (int i = 0; i < kSteps; ++i)
    svg.rect(x + kWidth * i / kSteps, y - kHeight, kWidth / kSteps + 0.5, kHeight,
             shade(static_cast<double>(i) / (kSteps - 1)));
  svg.text(x - 8, y, shown(range.low), {.size = 11, .anchor = Anchor::kEnd, .fill = kGrey});
  svg.text(x + kWidth + 8, y, shown(range.high), {.size = 11, .fill = kGrey});
}

void draw_cell(Svg& svg, double x, double y, double width, double value, const Range& range,
               const std::string& about) {
  constexpr double kRoom = 44;  // for three digits
  if (std::isnan(value)) return svg.rect(x, y, width - 1, kRow - 2, "#f3f4f6");
  const bool finite = std::isfinite(value);
  svg.rect(x, y, width - 1, kRow - 2, finite ? shade(range.share(value)) : std::string(kRed), about);
  if (width >= kRoom)
    svg.text(x + width / 2, y + 15, shown(value),
             {.size = 10,
              .anchor = Anchor::kMiddle,
              .fill = !finite || range.share(value) > 0.45 ? "#ffffff" : "#333333"});
}

}  // namespace

double draw_heading(Svg& svg, const std::string& title, const std::vector<std::string>& lines) {
  double y = kChartMargin + 16;
  svg.text(kChartMargin, y, fitted(title, kChartWidth - 2 * kChartMargin, 20), {.size = 20, .bold = true});
  for (const std::string& line : lines)
    svg.text(kChartMargin, y += 20, fitted(line, kChartWidth - 2 * kChartMargin, 12), {.fill = kGrey});
  return y + 16;
}

double draw_bars(Svg& svg, double top, const std::string& title, const std::vector<Bar>& bars) {
  constexpr double kNotes = 210;  // at the right
  double y = top + 20;
  draw_title(svg, y, title);
  y += 12;
  std::int64_t largest = 1;
  for (const Bar& bar : bars) largest = std::max({largest, bar.value, bar.before});
  const double room = kChartWidth - kChartMargin - kNotes - kLeft;
  const auto length = [&](std::int64_t value) {
    return room * static_cast<double>(value) / static_cast<double>(largest);
  };
  for (const Bar& bar : bars) {
    draw_label(svg, y + 16, bar.label);
    if (bar.before >= 0) svg.rect(kLeft, y + 3, length(bar.before), kRow - 6, kPale);
    const double inset = bar.before >= 0 ? 7 : 3;
    svg.rect(kLeft, y + inset, std::max(length(bar.value), 0.5), kRow - 2 * inset, kBlue,
             bar.label + ": " + bar.note);
    svg.text(kLeft + length(std::max(bar.value, bar.before)) + 8, y + 16, bar.note, {.fill = kGrey});
    y += kRow;
  }
  svg.line(kLeft, top + 32, kLeft, y, "#9ca3af");
  return y + 12;
}

double draw_heat_map(Svg& svg, double top, const std::string& title, const HeatMap& map) {
  double y = top + 20;
  draw_title(svg, y, title);
  Range range;
  for (const auto& row : map.values)
    for (const double value : row)
      if (std::isfinite(value)) range = {std::min(range.low, value), std::max(range.high, value)};
  if (range.low <= range.high) draw_scale(svg, y, range);
  y += 28;

  constexpr double kWidestCell = 64;
  const double width =
      std::min(kWidestCell, (kChartWidth - kChartMargin - kLeft) / static_cast<double>(map.layers.size()));
  const auto every = static_cast<std::size_t>(std::ceil(26 / width));  // labels that do not touch
  for (std::size_t column = 0; column < map.layers.size(); column += every)
    svg.text(kLeft + width * (static_cast<double>(column) + 0.5), y, map.layers[column],
             {.size = 11, .anchor = Anchor::kMiddle, .fill = kGrey});
  y += 8;
  for (std::size_t row = 0; row < map.kinds.size(); ++row) {
    draw_label(svg, y + 15, map.kinds[row]);
    for (std::size_t column = 0; column < map.layers.size(); ++column) {
      const double value = map.values[row][column];
      draw_cell(svg, kLeft + width * static_cast<double>(column), y, width, value, range,
                map.kinds[row] + ", layer " + map.layers[column] + ": " + shown(value));
    }
    y += kRow;
  }
  return y + 12;
}

}  // namespace qtool
