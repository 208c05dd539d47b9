#include "cmd/quantize_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "cmd/cli.h"
#include "cmd/table.h"
#include "core/error.h"

namespace qtool {
namespace {

constexpr std::size_t kWorst = 10;

std::size_t quantized_count(const Plan& plan) {
  return static_cast<std::size_t>(std::count_if(plan.entries.begin(), plan.entries.end(),
                                                [](const PlanEntry& entry) { return entry.quantized; }));
}

std::int64_t source_bytes(const PlanEntry& entry) {
  return count_of(entry.source.shape) * size_of(entry.source.dtype);
}

std::int64_t output_bytes(const PlanEntry& entry) {
  std::int64_t bytes = 0;
  for (const Part& part : entry.parts) bytes += part.bytes();
  return bytes;
}

std::string action_of(const Plan& plan, const PlanEntry& entry) {
  return entry.quantized ? method_name(plan) : std::string(info(entry.parts.front().dtype).torch_name);
}

// Numbers between dots as '#': the layers of a model on one line.
std::string pattern_of(const std::string& name) {
  std::string pattern;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool digit = name[i] >= '0' && name[i] <= '9';
    if (!digit) pattern += name[i];
    if (digit && !pattern.ends_with('#')) pattern += '#';
  }
  return escaped(pattern);
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

}  // namespace

double QuantizeReport::bits_per_weight() const {
  const std::int64_t parameters = plan.parameters();
  return parameters > 0 ? 8.0 * static_cast<double>(bytes_out) / static_cast<double>(parameters) : 0.0;
}

double QuantizeReport::gb_per_s() const {
  return seconds > 0.0 ? static_cast<double>(bytes_in) / seconds / 1e9 : 0.0;
}

std::string method_name(const Plan& plan) {
  return plan.quant.method == QuantMethod::kNone ? std::string(info(plan.rest_dtype).torch_name)
                                                 : scheme_name(plan.quant);
}

std::vector<TensorError> worst_of(std::vector<TensorError> errors, std::size_t count) {
  // NaN, the worst of all, first; equal errors keep the plan's order.
  std::stable_sort(errors.begin(), errors.end(), [](const TensorError& a, const TensorError& b) {
    if (std::isnan(a.relative_rmse) || std::isnan(b.relative_rmse))
      return std::isnan(a.relative_rmse) && !std::isnan(b.relative_rmse);
    return a.relative_rmse > b.relative_rmse;
  });
  errors.resize(std::min(errors.size(), count));
  return errors;
}

Json to_json(const QuantizeReport& report, bool tensors) {
  Json document = {{"schema", "qtool.quantize/1"},
                   {"input", report.input},
                   {"output", report.output},
                   {"method", method_name(report.plan)},
                   {"dtype", std::string(info(report.plan.rest_dtype).torch_name)},
                   {"skip_modules", report.plan.skip_modules},
                   {"dry_run", report.dry_run},
                   {"bytes_in", report.bytes_in},
                   {"bytes_out", report.bytes_out},
                   {"bits_per_weight", report.bits_per_weight()},
                   {"parameters", report.plan.parameters()}};
  const std::size_t quantized = quantized_count(report.plan);
  document["tensors"] = {{"quantized", quantized}, {"kept", report.plan.entries.size() - quantized}};
  Json& kept = document["kept"] = Json::array();
  for (const PlanEntry& entry : report.plan.entries)
    if (!entry.quantized) kept.push_back({{"name", entry.source.name}, {"reason", entry.reason}});
  Json& dropped = document["dropped"] = Json::array();
  for (const SourceTensor& tensor : report.plan.dropped) dropped.push_back(tensor.name);

  if (!report.dry_run) {
    Json& worst = document["worst"] = Json::array();
    for (const TensorError& error : worst_of(report.errors, kWorst))
      worst.push_back({{"name", error.name}, {"rel_rmse", error.relative_rmse}});
    document["verified"] = report.verified;
    document["files"] = report.files;
    document["copied"] = report.copied;
    document["peak_rss_bytes"] = report.peak_rss_bytes;
    document["seconds"] = report.seconds;
    document["gb_per_s"] = report.gb_per_s();
  }
  if (tensors) {
    std::map<std::string, double> error_of;
    for (const TensorError& error : report.errors) error_of.emplace(error.name, error.relative_rmse);
    Json& all = document["all_tensors"] = Json::array();
    for (const PlanEntry& entry : report.plan.entries) {
      Json row = {{"name", entry.source.name},
                  {"shape", entry.source.shape},
                  {"dtype", std::string(info(entry.source.dtype).torch_name)},
                  {"becomes", action_of(report.plan, entry)},
                  {"bytes_in", source_bytes(entry)},
                  {"bytes_out", output_bytes(entry)}};
      if (const auto found = error_of.find(entry.source.name); found != error_of.end())
        row["rel_rmse"] = found->second;
      all.push_back(std::move(row));
    }
  }
  return document;
}

std::string to_markdown(const QuantizeReport& report) {
  const std::string measured = report.verified ? "all values" : "a sample of the values";
  std::string text = "# " + escaped(report.output) + "\n\n" + method_name(report.plan) + " of `" +
                     escaped(report.input) + "`: " + human_bytes(report.bytes_in) + " to " +
                     human_bytes(report.bytes_out) + ", " + fixed(report.bits_per_weight(), 3) +
                     " bits a weight, in " + fixed(report.seconds, 1) + " s (" + fixed(report.gb_per_s(), 2) +
                     " GB/s, at most " + human_bytes(report.peak_rss_bytes) + " of memory). " +
                     kept_summary(report.plan) + ".\n\n";
  text += report.verified ? "The written files were read back and compared with the source.\n\n" : "";
  text +=
      "## Largest relative errors (root mean square, of " + measured + ")\n\n| tensor | error |\n|---|---|\n";
  for (const TensorError& error : worst_of(report.errors, kWorst))
    text += "| `" + escaped(error.name) + "` | " + shortened(error.relative_rmse) + " |\n";
  text += "\n## Kept as they are\n\n| tensor | reason |\n|---|---|\n";
  for (const PlanEntry& entry : report.plan.entries)
    if (!entry.quantized) text += "| `" + escaped(entry.source.name) + "` | " + entry.reason + " |\n";
  return text;
}

std::string plan_table(const Plan& plan) {
  struct Row {
    std::string pattern, from, becomes, reason;
    std::int64_t count = 0, bytes_in = 0, bytes_out = 0;
  };
  std::vector<Row> rows;
  std::map<std::string, std::size_t> row_of;
  for (const PlanEntry& entry : plan.entries) {
    Row row{pattern_of(entry.source.name), std::string(info(entry.source.dtype).torch_name),
            action_of(plan, entry), entry.reason};
    const auto [found, added] =
        row_of.emplace(row.pattern + '\n' + row.from + '\n' + row.becomes + '\n' + row.reason, rows.size());
    if (added) rows.push_back(std::move(row));
    Row& shared = rows[found->second];
    ++shared.count;
    shared.bytes_in += source_bytes(entry);
    shared.bytes_out += output_bytes(entry);
  }
  Table table({{"tensor"},
               {"count", Align::kRight},
               {"from"},
               {"to"},
               {"bytes in", Align::kRight},
               {"bytes out", Align::kRight},
               {"kept because"}});
  std::int64_t bytes_in = 0, bytes_out = 0;
  for (const Row& row : rows) {
    table.add({row.pattern, std::to_string(row.count), row.from, row.becomes, grouped(row.bytes_in),
               grouped(row.bytes_out), row.reason});
    bytes_in += row.bytes_in;
    bytes_out += row.bytes_out;
  }
  table.add(
      {"total", std::to_string(plan.entries.size()), "", "", grouped(bytes_in), grouped(bytes_out), ""});
  return table.text();
}

std::string kept_summary(const Plan& plan) {
  std::map<std::string, int> reasons;
  for (const PlanEntry& entry : plan.entries)
    if (!entry.quantized) ++reasons[entry.reason];
  const std::size_t quantized = quantized_count(plan);
  std::string text = std::to_string(quantized) + " tensors quantized, " +
                     std::to_string(plan.entries.size() - quantized) + " kept";
  std::string separator = " (";
  for (const auto& [reason, count] : reasons) {
    text += separator + reason + " " + std::to_string(count);
    separator = ", ";
  }
  return reasons.empty() ? text : text + ")";
}

}  // namespace qtool
