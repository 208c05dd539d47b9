#include "formats/verify_checkpoint.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <set>

#include "core/convert.h"
#include "core/error.h"
#include "core/quant/codebook.h"
#include "core/quant/dynamic_map.h"
#include "formats/quant_config.h"
#include "formats/quantization_error.h"
#include "formats/value_reader.h"

namespace qtool {
namespace {

// What was seen of one chunk, or of a whole tensor.
struct Findings {
  SquareSums sums;
  std::int64_t unfit_source = 0;   // NaN or infinite values of the source
  std::int64_t first_unfit = -1;   // index of the first of them, into the flattened tensor
  std::int64_t unfit_written = 0;  // ... and of the output
  std::int64_t wrong = 0;          // kept: other bits than the source's; quantized: too far away
  std::int64_t first_wrong = -1;   // index into the flattened tensor

  void add(const Findings& later) {
    sums += later.sums;
    unfit_source += later.unfit_source;
    if (first_unfit < 0) first_unfit = later.first_unfit;
    unfit_written += later.unfit_written;
    if (wrong == 0) first_wrong = later.first_wrong;
    wrong += later.wrong;
  }
  void note_unfit_source(std::int64_t index) {
    if (unfit_source++ == 0) first_unfit = index;
  }
  void note_wrong(std::int64_t index) {
    if (wrong++ == 0) first_wrong = index;
  }
};

// Half the widest gap between neighbours of `values` (in [-1, 1]), or what a value at -1 is away from the
// lowest.
float largest_step_error(std::vector<float> values) {
  std::sort(values.begin(), values.end());
  float widest = 2.0f * (values.front() + 1.0f);
  for (std::size_t i = 1; i < values.size(); ++i) widest = std::max(widest, values[i] - values[i - 1]);
  return widest / 2.0f;
}

// How far a dequantized value may lie from the original, given the largest magnitude of its block or row.
class Tolerance {
 public:
  Tolerance(const Plan& plan, std::span<const float> nested_absmax, std::int64_t row)
      : nested_(nested_absmax) {
    if (plan.quant.method == QuantMethod::kInt8) {
      group_ = row;
      // Half a step of 1/127, and the rounding to float16 that comes first.
      step_ = 1.0f / 254.0f + 0x1p-11f;
      floor_ = 0x1p-25f;
      return;
    }
    const Codebook4& book = codebook(plan.quant.code);
    group_ = plan.quant.block_size;
    step_ = largest_step_error({std::begin(book.values), std::end(book.values)});
    if (!nested_.empty()) nested_step_ = largest_step_error({kDynamicMap.begin(), kDynamicMap.end()});
  }

  std::int64_t group() const { return group_; }  // values that share one absmax

  float of(std::int64_t group_index, float absmax) const {
    constexpr float kRounding = 1e-5f;  // of scale, product and threshold literals, with room to spare
    float allowed = absmax * (step_ + kRounding) + floor_;
    const auto block = static_cast<std::size_t>(group_index / kNestedBlockSize);
    if (block < nested_.size()) allowed += nested_[block] * (nested_step_ + kRounding);
    return allowed;
  }

 private:
  std::int64_t group_ = 1;
  float step_ = 0.0f;
  float floor_ = 0x1p-125f;        // a block of denormals becomes zeros
  std::span<const float> nested_;  // absmax of absmax, if there are any
  float nested_step_ = 0.0f;
};

void note_unfit(const TensorView& values, std::int64_t begin, Findings& findings) {
  if (!info(values.dtype).is_float) return;
  std::vector<float> floats(static_cast<std::size_t>(values.count()));
  to_float32(values.data, values.dtype, values.count(), floats.data());
  for (std::size_t i = 0; i < floats.size(); ++i)
    if (!std::isfinite(floats[i])) findings.note_unfit_source(begin + static_cast<std::int64_t>(i));
  findings.unfit_written = findings.unfit_source;
}

Findings compare_kept(const TensorView& expected, const TensorView& written, std::int64_t begin) {
  Findings findings;
  note_unfit(written, begin, findings);
  const std::int64_t size = size_of(expected.dtype);
  if (std::memcmp(expected.data, written.data, static_cast<std::size_t>(expected.bytes())) == 0)
    return findings;
  for (std::int64_t i = 0; i < expected.count(); ++i)
    if (std::memcmp(expected.data + i * size, written.data + i * size, static_cast<std::size_t>(size)) != 0)
      findings.note_wrong(begin + i);
  return findings;
}

Findings compare_quantized(const TensorView& expected, std::span<const float> written, std::int64_t begin,
                           const Tolerance& tolerance) {
  Findings findings;
  std::vector<float> exact(written.size());
  to_float32(expected.data, expected.dtype, expected.count(), exact.data());
  for (std::size_t first = 0; first < exact.size();) {
    const std::size_t last = std::min(exact.size(), first + static_cast<std::size_t>(tolerance.group()));
    float absmax = 0.0f;
    for (std::size_t i = first; i < last; ++i) absmax = std::max(absmax, std::abs(exact[i]));
    const float allowed =
        tolerance.of((begin + static_cast<std::int64_t>(first)) / tolerance.group(), absmax);
    for (std::size_t i = first; i < last; ++i) {
      if (!std::isfinite(exact[i])) findings.note_unfit_source(begin + static_cast<std::int64_t>(i));
      findings.unfit_written += std::isfinite(written[i]) ? 0 : 1;
      if (!(std::abs(exact[i] - written[i]) <= allowed))
        findings.note_wrong(begin + static_cast<std::int64_t>(i));
    }
    first = last;
  }
  findings.sums = square_sums(expected, written);
  return findings;
}

class Verifier {
 public:
  Verifier(const Checkpoint& source, const Plan& plan, const Checkpoint& written,
           const StreamOptions& options)
      : plan_(plan),
        options_(options),
        input_(source, input_values(plan)),
        output_(written, output_values(plan)) {
    check_structure(written);
  }

  Verification run() {
    if (result_.problems.empty()) compare_values();
    return std::move(result_);
  }

 private:
  void problem(const std::string& name, const std::string& what) {
    result_.problems.push_back("'" + escaped(name) + "': " + what);
  }

  // Names, types and shapes against the plan; quantization_config against both.
  void check_structure(const Checkpoint& written) {
    std::set<std::string> planned;
    for (const PlannedTensor& tensor : output_tensors(plan_)) {
      planned.insert(tensor.spec.name);
      if (!written.has(tensor.spec.name)) {
        problem(tensor.spec.name, "missing from the output");
        continue;
      }
      const TensorInfo& found = written.at(tensor.spec.name).info;
      if (found.dtype != tensor.spec.dtype)
        problem(tensor.spec.name, "stored as " + std::string(info(found.dtype).name));
      if (found.shape != tensor.spec.shape && !tensor.open_length)
        problem(tensor.spec.name, "stored with another shape");
    }
    for (const auto& [name, stored] : written.tensors())
      if (!planned.contains(name)) problem(name, "in the output but not in the plan");

    const std::optional<QuantConfig> config = quant_config_of(written.config());
    const QuantSpec found = config ? config->spec : QuantSpec{};
    if (found.method != plan_.quant.method ||
        (found.method == QuantMethod::kBlock4 &&
         (found.code != plan_.quant.code || found.nested != plan_.quant.nested ||
          found.storage != plan_.quant.storage)))
      result_.problems.emplace_back("config.json: quantization_config does not say what the tensors are");
  }

  void compare_values() {
    const std::size_t count = plan_.entries.size();
    std::vector<WorkItem> items = work_items(plan_, input_);
    std::vector<std::size_t> order;
    for (std::size_t e = 0; e < count; ++e) {
      if (plan_.entries[e].parts.empty()) continue;
      order.push_back(e);
      const ReadMemory reading = output_.memory(e, DType::kF32);
      items[e].bytes_per_element += reading.per_element + 2 * size_of(DType::kF32);  // and two checks
      items[e].bytes_held += reading.held;
    }
    const WorkList work = make_work_list(items, order, options_.threads, options_.max_ram_bytes);

    std::vector<std::vector<Findings>> findings(
        count);  // one a chunk: what is found does not depend on threads
    std::vector<std::atomic<std::size_t>> left(count);
    for (std::size_t e = 0; e < count; ++e) {
      findings[e].resize(work.chunks_of[e]);
      left[e] = work.chunks_of[e];
    }
    struct Buffers {
      ReadBuffers input, output;
    };
    std::vector<Buffers> buffers(static_cast<std::size_t>(work.threads));
    qtool::run(work, [&](const Chunk& chunk, std::size_t thread) {
      findings[chunk.item][chunk.number] = compare(chunk, buffers[thread].input, buffers[thread].output);
      if (left[chunk.item].fetch_sub(1) == 1) {
        input_.release(chunk.item);
        output_.release(chunk.item);
      }
      if (options_.progress) options_.progress(chunk.count * size_of(plan_.entries[chunk.item].source.dtype));
    });
    for (const std::size_t e : order) report(plan_.entries[e], findings[e]);
  }

  Findings compare(const Chunk& chunk, ReadBuffers& input, ReadBuffers& output) const {
    const PlanEntry& entry = plan_.entries[chunk.item];
    const DType dtype = entry.quantized ? plan_.rest_dtype : entry.parts.front().dtype;
    const TensorView expected = input_.read(chunk.item, chunk.begin, chunk.count, dtype, input);
    if (!entry.quantized)
      return compare_kept(expected, output_.read(chunk.item, chunk.begin, chunk.count, dtype, output),
                          chunk.begin);
    const TensorView written = output_.read(chunk.item, chunk.begin, chunk.count, DType::kF32, output);
    const Tolerance tolerance(plan_, output_.nested_absmax(chunk.item), entry.source.shape.at(1));
    return compare_quantized(expected, written.as<float>(), chunk.begin, tolerance);
  }

  void report(const PlanEntry& entry, const std::vector<Findings>& chunks) {
    Findings all;
    for (const Findings& chunk : chunks) all.add(chunk);
    const std::string& name = entry.source.name;
    const std::string of = " of " + std::to_string(count_of(entry.source.shape)) + " values ";
    if (all.unfit_source > 0) {
      problem(name, std::to_string(all.unfit_source) + of +
                        "are NaN or infinite, which no quantized model can hold, the first at index " +
                        std::to_string(all.first_unfit));
    } else if (all.unfit_written > 0) {
      problem(name, std::to_string(all.unfit_written) + of + "became NaN or infinite");
    }
    if (all.wrong > 0) {
      problem(name, std::to_string(all.wrong) + of +
                        (entry.quantized ? "lie farther from the source than the codebook allows"
                                         : "differ from the source") +
                        ", the first at index " + std::to_string(all.first_wrong));
    }
    if (entry.quantized) result_.errors.push_back({name, all.sums.relative_rmse()});
  }

  const Plan& plan_;
  const StreamOptions& options_;
  ValueReader input_, output_;
  Verification result_;
};

}  // namespace

Verification verify_checkpoint(const Checkpoint& source, const Plan& plan, const std::string& folder,
                               const StreamOptions& options) {
  const Checkpoint written = Checkpoint::open(folder);
  return Verifier(source, plan, written, options).run();
}

}  // namespace qtool
