#include "cmd/inspect_svg.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <span>

#include "cmd/charts.h"
#include "cmd/cli.h"
#include "cmd/table.h"
#include "formats/file.h"

namespace qtool {
namespace {

constexpr std::size_t kKinds = 24;  // bars of one chart at most

std::string text_at(const Json& object, const char* key) { return object.at(key).get<std::string>(); }
std::int64_t number_at(const Json& object, const char* key) { return object.at(key).get<std::int64_t>(); }

std::string without_weight(std::string name) {
  constexpr std::string_view kWeight = ".weight";
  if (name.ends_with(kWeight)) name.resize(name.size() - kWeight.size());
  return name;
}

std::vector<Bar> bars_of_codes(const Json& codes) {
  std::vector<Bar> bars;
  const std::size_t together = codes.size() > kKinds ? 16 : 1;  // 256 codes of int8 in 16 bars
  const int first = together > 1 ? -static_cast<int>(codes.size()) / 2 : 0;
  for (std::size_t i = 0; i < codes.size(); i += together) {
    Bar bar;
    for (std::size_t j = i; j < i + together; ++j) bar.value += codes[j].get<std::int64_t>();
    const int code = first + static_cast<int>(i);
    bar.label = std::to_string(code);
    if (together > 1) bar.label += " to " + std::to_string(code + static_cast<int>(together) - 1);
    bar.note = grouped(bar.value);
    bars.push_back(bar);
  }
  return bars;
}

std::vector<Bar> bars_of_values(const Json& histogram) {
  std::vector<Bar> bars;
  const double low = histogram.at("low").get<double>(), high = histogram.at("high").get<double>();
  const Json& counts = histogram.at("counts");
  for (std::size_t i = 0; i < counts.size(); ++i) {
    char label[32];
    std::snprintf(label, sizeof label, "from %+#.4g",
                  low + (high - low) * static_cast<double>(i) / static_cast<double>(counts.size()));
    bars.push_back({label, counts[i].get<std::int64_t>(), -1, grouped(counts[i].get<std::int64_t>())});
  }
  return bars;
}

}  // namespace

std::string summary_svg(const Json& document) {
  const std::string folder = text_at(document, "folder");
  std::int64_t bytes = 0, parameters = 0;
  std::vector<Bar> classes;
  for (const Json& row : document.at("sizes")) {
    const std::int64_t size = number_at(row, "bytes"), count = number_at(row, "parameters");
    classes.push_back(
        {text_at(row, "class"), size, 2 * count, human_bytes(size) + ", " + grouped(count) + " parameters"});
    bytes += size;
    parameters += count;
  }
  std::vector<Bar> kinds;
  for (const Json& row : document.at("layers"))
    kinds.push_back({without_weight(text_at(row, "pattern")), number_at(row, "bytes"), -1,
                     human_bytes(number_at(row, "bytes")) + ", " + std::to_string(number_at(row, "count")) +
                         " x " + text_at(row, "stored")});
  std::stable_sort(kinds.begin(), kinds.end(), [](const Bar& a, const Bar& b) { return a.value > b.value; });
  if (kinds.size() > kKinds) kinds.resize(kKinds);

  Svg svg(kChartWidth, folder);
  double y = draw_heading(svg, folder, {grouped(parameters) + " parameters in " + human_bytes(bytes)});
  y = draw_bars(svg, y, "Size by class (pale: in 16 bits)", classes);
  y = draw_bars(svg, y, "Size by tensor", kinds);
  return svg.finish(y + kChartMargin / 2);
}

std::string tensor_svg(const Json& document) {
  const Json& tensor = document.at("tensor");
  const bool codes = tensor.contains("codes");
  Svg svg(kChartWidth, text_at(tensor, "name"));
  double y = draw_heading(
      svg, text_at(tensor, "name"),
      {text_at(document, "folder"), (codes ? text_at(tensor, "form") : text_at(tensor, "dtype")) + " " +
                                        (codes ? tensor.at("logical_shape") : tensor.at("shape")).dump()});
  y = codes ? draw_bars(svg, y, "Codes", bars_of_codes(tensor.at("codes")))
            : draw_bars(svg, y, "Spread of values", bars_of_values(tensor.at("histogram")));
  return svg.finish(y + kChartMargin / 2);
}

void write_svg(const std::string& path, const std::string& text) {
  OutputFile(path).write_at(0, std::as_bytes(std::span(text)));
}

}  // namespace qtool
