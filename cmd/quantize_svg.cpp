// quantize --report FILE.svg: what every layer lost, and what became of the bytes.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>

#include "cmd/charts.h"
#include "cmd/cli.h"
#include "cmd/quantize_report.h"
#include "core/model/roles.h"

namespace qtool {
namespace {

// "model.layers.3.mlp.experts.7.w1.weight": layer "3", kind "mlp.experts.#.w1".
struct Place {
  std::string layer = "-";  // of what is outside the layers
  std::string kind;
};

Place place_of(const std::string& name) {
  Place place;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(),
                                                     [](unsigned char c) { return std::isdigit(c) != 0; });
    if (number && place.layer == "-") {
      place.layer = part;
      place.kind.clear();  // what leads to the layers is the same for all
    } else {
      place.kind += (place.kind.empty() ? "" : ".") + (number ? "#" : part);
    }
    begin = end + 1;
  }
  constexpr std::string_view kWeight = ".weight";
  if (place.kind.ends_with(kWeight)) place.kind.resize(place.kind.size() - kWeight.size());
  return place;
}

std::size_t index_in(std::vector<std::string>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  names.push_back(name);
  return names.size() - 1;
}

// A NaN in the map says that there is no such tensor: a tensor whose error is NaN counts as infinite.
HeatMap error_map(const std::vector<TensorError>& errors) {
  HeatMap map;
  std::map<std::pair<std::size_t, std::size_t>, double> cells;
  for (const TensorError& error : errors) {
    const Place place = place_of(error.name);
    const auto cell = std::pair(index_in(map.kinds, place.kind), index_in(map.layers, place.layer));
    const double value =
        std::isnan(error.relative_rmse) ? std::numeric_limits<double>::infinity() : error.relative_rmse;
    const auto [at, fresh] = cells.try_emplace(cell, value);
    if (!fresh) at->second = std::max(at->second, value);  // of experts, the worst
  }
  map.values.assign(map.kinds.size(),
                    std::vector<double>(map.layers.size(), std::numeric_limits<double>::quiet_NaN()));
  for (const auto& [cell, value] : cells) map.values[cell.first][cell.second] = value;
  return map;
}

std::vector<Bar> size_bars(const Plan& plan) {
  std::vector<Bar> bars;
  for (const PlanEntry& entry : plan.entries) {
    const std::string name(class_of(entry.source.role.role));
    auto bar = std::find_if(bars.begin(), bars.end(), [&](const Bar& other) { return other.label == name; });
    if (bar == bars.end()) bar = bars.insert(bars.end(), {name, 0, 0, ""});
    bar->before += count_of(entry.source.shape) * size_of(entry.source.dtype);
    for (const Part& part : entry.parts) bar->value += part.bytes();
  }
  std::stable_sort(bars.begin(), bars.end(), [](const Bar& a, const Bar& b) { return a.before > b.before; });
  for (Bar& bar : bars) bar.note = human_bytes(bar.before) + " to " + human_bytes(bar.value);
  return bars;
}

}  // namespace

std::string to_svg(const QuantizeReport& report) {
  char bits[32];
  std::snprintf(bits, sizeof bits, "%.3f", report.bits_per_weight());
  Svg svg(kChartWidth, report.output + ", " + method_name(report.plan));
  double y = draw_heading(
      svg, report.output,
      {method_name(report.plan) + " of " + report.input,
       human_bytes(report.bytes_in) + " to " + human_bytes(report.bytes_out) + ", " + bits + " bits a weight",
       kept_summary(report.plan)});
  if (!report.errors.empty())
    y = draw_heat_map(svg, y,
                      std::string("Relative error (root mean square, of ") +
                          (report.verified ? "all values)" : "a sample of the values)") + " by layer",
                      error_map(report.errors));
  y = draw_bars(svg, y, "Size by class: before (pale) and after", size_bars(report.plan));
  return svg.finish(y + kChartMargin / 2);
}

}  // namespace qtool
