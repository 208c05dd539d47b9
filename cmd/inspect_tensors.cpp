// qtool inspect --tensors, --tensor: stored tensors one by one.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fnmatch.h>
#include <nlohmann/json.hpp>

#include "cmd/inspect.h"
#include "cmd/inspect_svg.h"
#include "cmd/table.h"
#include "cmd/tensor_stats.h"
#include "core/quant/codebook.h"
#include "core/quant/quantizer.h"
#include "formats/weights_io.h"

namespace qtool {
namespace {

constexpr int kBins = 24;
constexpr int kBarWidth = 40;

std::string file_name(const Checkpoint& checkpoint, const StoredTensor& tensor) {
  return std::filesystem::path(checkpoint.files()[static_cast<std::size_t>(tensor.file)].path())
      .filename()
      .string();
}

Json json_of(const Checkpoint& checkpoint, const std::string& name, const StoredTensor& tensor) {
  return {{"name", name},
          {"dtype", info(tensor.info.dtype).name},
          {"shape", tensor.info.shape},
          {"bytes", tensor.info.bytes},
          {"file", file_name(checkpoint, tensor)},
          {"offset", tensor.info.begin}};
}

Json json_of(const TensorStats& stats) {
  return {{"count", stats.count},  {"min", stats.min},     {"max", stats.max},
          {"mean", stats.mean},    {"rms", stats.rms},     {"nan", stats.nan},
          {"inf", stats.infinite}, {"zeros", stats.zeros}, {"absmax", stats.absmax()}};
}

std::string text_of(const TensorStats& stats, const std::string& title) {
  Table table({{"  " + title}, {"", Align::kRight}});
  const auto row = [&](const char* key, const std::string& value) {
    table.add({std::string("    ") + key, value});
  };
  row("count", grouped(stats.count));
  row("min", shortened(stats.min));
  row("max", shortened(stats.max));
  row("mean", shortened(stats.mean));
  row("rms", shortened(stats.rms));
  row("absmax", shortened(stats.absmax()));
  row("zeros", grouped(stats.zeros));
  row("NaN", grouped(stats.nan));
  row("Inf", grouped(stats.infinite));
  return table.text();
}

// One bar a row: label, share of all, bar in proportion to the largest.
std::string bars(const std::vector<std::string>& titles, const std::vector<std::vector<std::string>>& labels,
                 const std::vector<std::int64_t>& counts) {
  std::vector<Table::Column> columns;
  for (const std::string& title : titles) columns.push_back({title, Align::kRight});
  columns.push_back({"count", Align::kRight});
  columns.push_back({""});
  Table table(columns);
  const std::int64_t largest = std::max<std::int64_t>(1, *std::max_element(counts.begin(), counts.end()));
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double share = static_cast<double>(counts[i]) / static_cast<double>(largest);
    std::vector<std::string> cells = labels[i];
    cells.push_back(grouped(counts[i]));
    cells.emplace_back(static_cast<std::size_t>(std::ceil(share * kBarWidth)), '#');
    table.add(std::move(cells));
  }
  return table.text(4);
}

std::string text_of(const Histogram& histogram) {
  std::vector<std::vector<std::string>> labels;
  const double width = (histogram.high - histogram.low) / static_cast<double>(histogram.counts.size());
  for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
    char label[32];
    std::snprintf(label, sizeof label, "%+.4e", histogram.low + width * static_cast<double>(i));
    labels.push_back({label});
  }
  return "  spread of values\n" + bars({"from"}, labels, histogram.counts);
}

// 4-bit codes with what they stand for; 8-bit codes 16 to a row.
std::string text_of_codes(const std::vector<std::int64_t>& counts, const QuantSpec& spec) {
  std::vector<std::vector<std::string>> labels;
  if (spec.method == QuantMethod::kBlock4) {
    for (std::size_t code = 0; code < counts.size(); ++code) {
      char value[32];
      std::snprintf(value, sizeof value, "%+.6f", static_cast<double>(codebook(spec.code).values[code]));
      labels.push_back({std::to_string(code), value});
    }
    return "  codes\n" + bars({"code", "value"}, labels, counts);
  }
  constexpr std::size_t kPerRow = 16;
  std::vector<std::int64_t> rows(counts.size() / kPerRow, 0);
  for (std::size_t i = 0; i < counts.size(); ++i) rows[i / kPerRow] += counts[i];
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const int first = static_cast<int>(i * kPerRow) - 128;
    labels.push_back(
        {std::to_string(first) + " to " + std::to_string(first + static_cast<int>(kPerRow) - 1)});
  }
  return "  codes\n" + bars({"code"}, labels, rows);
}

// The scales of a quantized weight, as filed.
const Tensor& scales_of(const Weight& weight) {
  if (const auto* int8 = std::get_if<Int8Weight>(&weight)) return int8->row_absmax;
  const auto& block4 = std::get<Block4Weight>(weight);
  return block4.nested() ? block4.nested_absmax : block4.absmax;
}

std::string not_found(const Checkpoint& checkpoint, const std::string& name) {
  std::string sentence = "there is no tensor '" + escaped(name) + "'; ";
  const std::string leaf = name.substr(name.rfind('.') == std::string::npos ? 0 : name.rfind('.') + 1);
  for (const auto& [other, stored] : checkpoint.tensors())
    if (other.starts_with(name) || other.ends_with(name) || other.find(leaf) != std::string::npos)
      return sentence + "there is '" + escaped(other) + "'; --tensors lists all";
  return sentence + "--tensors lists all";
}

}  // namespace

void print_tensors(const Checkpoint& checkpoint, const std::string& glob, const CommonOptions& common) {
  Table table(
      {{"tensor"}, {"dtype"}, {"shape"}, {"bytes", Align::kRight}, {"file"}, {"offset", Align::kRight}});
  Json list = Json::array();
  for (const auto& [name, stored] : checkpoint.tensors()) {
    if (!glob.empty() && fnmatch(glob.c_str(), name.c_str(), 0) != 0) continue;
    if (common.json) {
      list.push_back(json_of(checkpoint, name, stored));
    } else {
      table.add({escaped(name), std::string(info(stored.info.dtype).name), text_of(stored.info.shape),
                 grouped(stored.info.bytes), escaped(file_name(checkpoint, stored)),
                 grouped(stored.info.begin)});
    }
  }
  if (list.empty() && table.empty())
    throw Error(ExitCode::kNotFound, "no tensor matches '" + escaped(glob) + "' in " +
                                         escaped(checkpoint.folder()) +
                                         " (the model is named before --tensors)");
  if (common.json)
    print_json({{"schema", "qtool.inspect/1"}, {"folder", escaped(checkpoint.folder())}, {"tensors", list}});
  else
    print_out(table.text());
}

void print_tensor(const Checkpoint& checkpoint, const std::string& name, bool stats, bool histogram,
                  const std::string& svg, const CommonOptions& common) {
  if (!checkpoint.has(name)) throw Error(ExitCode::kNotFound, not_found(checkpoint, name));
  const StoredTensor& stored = checkpoint.at(name);
  const std::vector<LogicalTensor> all = logical_tensors(checkpoint);
  const auto logical =
      std::find_if(all.begin(), all.end(), [&](const LogicalTensor& t) { return t.name == name; });
  const bool quantized = logical != all.end() && logical->quant;

  Json object = json_of(checkpoint, name, stored);
  std::string text = escaped(name) + "\n";
  Table facts({{""}, {""}});
  facts.add({"stored", std::string(info(stored.info.dtype).name) + " " + text_of(stored.info.shape)});
  facts.add({"bytes", grouped(stored.info.bytes)});
  facts.add({"file", escaped(file_name(checkpoint, stored)) + ", offset " + grouped(stored.info.begin)});
  if (quantized) {
    object["form"] = logical->form();
    object["logical_shape"] = logical->shape;
    object["bytes_with_statistics"] = logical->bytes;
    facts.add({"stands for", logical->form() + " " + text_of(logical->shape) + ", from " +
                                 std::string(info(logical->dtype).torch_name)});
    facts.add({"with statistics", grouped(logical->bytes)});
  }
  text += facts.text(2);

  if (quantized && (stats || histogram)) {
    const Weight weight = read_weight(checkpoint, logical->module, 0.0f);
    const Tensor values = dequantize(weight, DType::kF32);
    if (stats) {
      const TensorStats of_values = stats_of(ValueStream(values.view()));
      const TensorStats of_scales = stats_of(ValueStream(scales_of(weight).view()));
      object["stats"] = json_of(of_values);
      object["scales"] = json_of(of_scales);
      text += "\n" + text_of(of_values, "values, dequantized") + "\n" +
              text_of(of_scales, logical->quant->method == QuantMethod::kInt8 ? "row absmax (SCB)"
                                 : logical->quant->nested                     ? "absmax of the nested absmax"
                                                                              : "block absmax");
    }
    if (histogram) {
      const std::vector<std::int64_t> counts = code_counts(weight);
      object["codes"] = counts;
      text += "\n" + text_of_codes(counts, *logical->quant);
    }
  } else if (stats || histogram) {
    const TensorStats of_values = stats_of(ValueStream(checkpoint, stored));
    if (stats) {
      object["stats"] = json_of(of_values);
      text += "\n" + text_of(of_values, "values");
    }
    if (histogram) {
      const Histogram spread = histogram_of(ValueStream(checkpoint, stored), of_values, kBins);
      object["histogram"] = {{"low", spread.low}, {"high", spread.high}, {"counts", spread.counts}};
      text += "\n" + text_of(spread);
    }
  }
  const Json document = {
      {"schema", "qtool.inspect/1"}, {"folder", escaped(checkpoint.folder())}, {"tensor", object}};
  if (!svg.empty()) write_svg(svg, tensor_svg(document));
  if (common.json)
    print_json(document);
  else
    print_out(text);
}

}  // namespace qtool
