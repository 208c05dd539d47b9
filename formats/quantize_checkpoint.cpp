#include "formats/quantize_checkpoint.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <mutex>
#include <optional>
#include <sstream>

#include "core/error.h"
#include "core/quant/codebook.h"
#include "core/quant/dynamic_map.h"
#include "formats/quantization_error.h"
#include "formats/resume.h"

namespace qtool {
namespace {

// Memory of one thread.
struct ThreadBuffers {
  ReadBuffers read;
  Scratch codes, statistics;
};

// An entry of the plan on its way.
struct Progressing {
  std::vector<std::size_t> outputs;  // the writer's tensors, one a part
  std::atomic<std::size_t> chunks_left{0};
  std::once_flag begun;
  std::vector<float> absmax;          // nested: [blocks], until the last chunk has come
  std::vector<SquareSums> errors;     // one a chunk, so that their sum does not depend on the order of work
  std::optional<double> noted_error;  // of all, where an interrupted run has quantized the tensor
};

constexpr std::string_view kErrorNote = "error";  // ENTRY BITS: a note, the error's bits as a number

bool is_quant_state(const Part& part) { return part.suffix.starts_with(".weight.quant_state."); }

class Stream {
 public:
  Stream(const Checkpoint& source, const Plan& plan, const Quantizer& quantizer, AtomicFolder& folder,
         const StreamOptions& options, const std::string& work)
      : plan_(plan),
        quantizer_(quantizer),
        options_(options),
        reader_(source, input_values(plan)),
        folder_(folder),
        writer_(folder, output_tensors(plan), options.max_shard_bytes, work),
        entries_(plan.entries.size()) {
    std::size_t next = 0;
    std::vector<std::vector<std::size_t>> outputs(entries_.size());
    for (std::size_t e = 0; e < entries_.size(); ++e) {
      for (std::size_t part = 0; part < plan.entries[e].parts.size(); ++part) outputs[e].push_back(next++);
      entries_[e].outputs = outputs[e];
    }
    std::vector<std::size_t> order = write_order(writer_.foreseen(), outputs);
    while (!order.empty() && outputs[order.back()].empty())
      order.pop_back();  // entries without output come last
    const std::int64_t kept_bytes = skip_finished(order);
    work_ = make_work_list(work_items(plan, reader_), order, options.threads, options.max_ram_bytes);
    for (std::size_t e = 0; e < entries_.size(); ++e) {
      entries_[e].chunks_left = work_.chunks_of[e];
      entries_[e].errors.resize(work_.chunks_of[e]);
    }
    const std::int64_t needed = writer_.foreseen().file_bytes() - writer_.kept_bytes(),
                       free = free_bytes_at(folder.target());
    if (needed > free) {
      throw Error(ExitCode::kIo,
                  "the output needs " + std::to_string(needed) + " bytes of disk space, but " +
                      std::to_string(free) + " are free at '" + folder.target() +
                      "': make room or choose another folder with -o",
                  folder.target());
    }
    if (writer_.kept_files() > 0 && options.resumed) options.resumed({writer_.kept_files(), kept_bytes, ""});
  }

  QuantizedCheckpoint run() {
    std::vector<ThreadBuffers> buffers(static_cast<std::size_t>(work_.threads));
    qtool::run(
        work_, [&](const Chunk& chunk, std::size_t thread) { handle(chunk, buffers[thread]); },
        [&] { writer_.cancel(); });
    CheckpointWriter::Result written = writer_.finish(total_parameters(plan_));
    return {std::move(written.layout), written.rebuilt_files, errors()};
  }

 private:
  // Takes entries out of `order` whose pieces an interrupted run has all finished; bytes of the source that
  // are not read therefore.
  std::int64_t skip_finished(std::vector<std::size_t>& order) {
    const auto finished = [&](std::size_t entry) {
      const std::vector<std::size_t>& pieces = entries_[entry].outputs;
      return std::all_of(pieces.begin(), pieces.end(),
                         [&](std::size_t piece) { return writer_.kept(piece); });
    };
    std::int64_t bytes = 0;
    for (const std::size_t entry : order)
      if (finished(entry)) bytes += reader_.stored_bytes(entry);
    std::erase_if(order, finished);
    for (const std::string& note : folder_.notes()) {
      std::istringstream words(note);
      std::string word;
      std::size_t entry = 0;
      std::uint64_t bits = 0;
      if (words >> word >> entry >> bits && word == kErrorNote && entry < entries_.size())
        entries_[entry].noted_error = std::bit_cast<double>(bits);
    }
    return bytes;
  }

  void handle(const Chunk& chunk, ThreadBuffers& buffers) {
    const PlanEntry& entry = plan_.entries[chunk.item];
    const DType dtype = entry.quantized ? plan_.rest_dtype : entry.parts.at(0).dtype;
    const TensorView values = reader_.read(chunk.item, chunk.begin, chunk.count, dtype, buffers.read);
    if (!entry.quantized) {
      end_chunk(chunk);
      write(chunk, "", chunk.begin * size_of(dtype),
            std::span(values.data, static_cast<std::size_t>(values.bytes())));
    } else if (plan_.quant.method == QuantMethod::kInt8) {
      int8(chunk, values, buffers);
    } else {
      block4(chunk, values, buffers);
    }
    if (options_.progress) options_.progress(source_bytes(chunk));
  }

  void block4(const Chunk& chunk, const TensorView& values, ThreadBuffers& buffers) {
    const int block_size = plan_.quant.block_size;
    const std::int64_t first = chunk.begin / block_size, blocks = (chunk.count + block_size - 1) / block_size;
    Progressing& state = entries_[chunk.item];
    const std::span<std::uint8_t> packed = buffers.codes.take_as<std::uint8_t>((chunk.count + 1) / 2);
    std::span<float> absmax;  // [blocks]
    if (plan_.quant.nested) {
      const std::int64_t all =
          (count_of(plan_.entries[chunk.item].source.shape) + block_size - 1) / block_size;
      std::call_once(state.begun, [&] { state.absmax.resize(static_cast<std::size_t>(all)); });
      absmax =
          std::span(state.absmax).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(blocks));
    } else {
      absmax = buffers.statistics.take_as<float>(blocks);
    }
    quantizer_.block4(values, plan_.quant.code, block_size, packed, absmax);
    state.errors[chunk.number] = sample_block4(values, plan_.quant, packed, absmax);

    // The end of a weight settles the place of all that follows it, so it comes before writes that may have
    // to wait.
    const bool last = end_chunk(chunk);
    if (plan_.quant.nested && last) end_nested(chunk);
    write(chunk, ".weight", chunk.begin / 2, std::as_bytes(packed));
    if (!plan_.quant.nested) {
      write(chunk, ".weight.absmax", first * size_of(DType::kF32), std::as_bytes(absmax));
      if (last) end_plain(chunk);
    }
  }

  // All absmax of a nested weight are there: they become codes, and quant_state gets its offset.
  void end_nested(const Chunk& chunk) {
    const PlanEntry& entry = plan_.entries[chunk.item];
    std::vector<float> absmax = std::move(entries_[chunk.item].absmax);
    std::vector<std::uint8_t> codes(absmax.size());
    std::vector<float> nested((absmax.size() + kNestedBlockSize - 1) / kNestedBlockSize);
    const float offset = quantizer_.nest(absmax, codes, nested);
    const std::string state = quant_state_json(entry.source.shape, plan_.rest_dtype, plan_.quant, offset);
    writer_.set_length(entries_[chunk.item].outputs.back(), std::ssize(state));

    write(chunk, ".weight.absmax", 0, std::as_bytes(std::span(codes)));
    write(chunk, ".weight.nested_absmax", 0, std::as_bytes(std::span(nested)));
    write(chunk, ".weight.nested_quant_map", 0, std::as_bytes(std::span(kDynamicMap)));
    write(chunk, ".weight.quant_map", 0, std::as_bytes(std::span(codebook(plan_.quant.code).values)));
    writer_.write(entries_[chunk.item].outputs.back(), 0, std::as_bytes(std::span(state)));
  }

  void end_plain(const Chunk& chunk) {
    const PlanEntry& entry = plan_.entries[chunk.item];
    const std::string state = quant_state_json(entry.source.shape, plan_.rest_dtype, plan_.quant, 0.0f);
    write(chunk, ".weight.quant_map", 0, std::as_bytes(std::span(codebook(plan_.quant.code).values)));
    writer_.write(entries_[chunk.item].outputs.back(), 0, std::as_bytes(std::span(state)));
  }

  void int8(const Chunk& chunk, const TensorView& values, ThreadBuffers& buffers) {
    const std::int64_t in = plan_.entries[chunk.item].source.shape.at(1);
    const std::int64_t rows = in > 0 ? chunk.count / in : 0;
    const std::span<std::int8_t> codes = buffers.codes.take_as<std::int8_t>(chunk.count);
    const std::span<float> absmax = buffers.statistics.take_as<float>(rows);
    quantizer_.int8_rows({values.data, values.dtype, {rows, in}}, codes, absmax);
    entries_[chunk.item].errors[chunk.number] = sample_int8(values, in, codes, absmax);
    write(chunk, ".weight", chunk.begin, std::as_bytes(codes));
    write(chunk, ".SCB", (in > 0 ? chunk.begin / in : 0) * size_of(DType::kF32), std::as_bytes(absmax));
    constexpr std::uint8_t kRowMajor = 0;  // the one weight format that bitsandbytes still reads
    if (end_chunk(chunk)) write(chunk, ".weight_format", 0, std::as_bytes(std::span(&kRowMajor, 1)));
  }

  // Counts a chunk as read and quantized; true for the last one of its entry.
  bool end_chunk(const Chunk& chunk) {
    if (entries_[chunk.item].chunks_left.fetch_sub(1) != 1) return false;
    reader_.release(chunk.item);
    if (plan_.entries[chunk.item].quantized) {
      const auto bits = std::bit_cast<std::uint64_t>(error_of(chunk.item));
      folder_.note(std::string(kErrorNote) + " " + std::to_string(chunk.item) + " " + std::to_string(bits),
                   Journal::Sync::kNo);  // the note about the file that the tensor ends in takes it along
    }
    return true;
  }

  void write(const Chunk& chunk, std::string_view suffix, std::int64_t offset,
             std::span<const std::byte> bytes) {
    const std::vector<Part>& parts = plan_.entries[chunk.item].parts;
    std::size_t part = 0;
    if (plan_.entries[chunk.item].quantized)
      while (part < parts.size() && parts[part].suffix != suffix) ++part;
    if (part == parts.size()) throw internal_error("the plan has no part '" + std::string(suffix) + "'");
    writer_.write(entries_[chunk.item].outputs[part], offset, bytes);
  }
  // The share of its tensor's stored bytes: shares add up to the whole.
  std::int64_t source_bytes(const Chunk& chunk) const {
    const double bytes = static_cast<double>(reader_.stored_bytes(chunk.item));
    const auto elements =
        static_cast<double>(std::max<std::int64_t>(1, count_of(plan_.entries[chunk.item].source.shape)));
    const auto up_to = [&](std::int64_t element) {
      return std::llround(bytes * static_cast<double>(element) / elements);
    };
    return up_to(chunk.begin + chunk.count) - up_to(chunk.begin);
  }

  double error_of(std::size_t entry) const {
    if (entries_[entry].errors.empty()) return entries_[entry].noted_error.value_or(0.0);
    SquareSums sums;
    for (const SquareSums& chunk : entries_[entry].errors) sums += chunk;
    return sums.relative_rmse();
  }

  std::vector<TensorError> errors() const {
    std::vector<TensorError> result;
    for (std::size_t e = 0; e < entries_.size(); ++e)
      if (plan_.entries[e].quantized) result.push_back({plan_.entries[e].source.name, error_of(e)});
    return result;
  }

  const Plan& plan_;
  const Quantizer& quantizer_;
  const StreamOptions& options_;
  ValueReader reader_;
  AtomicFolder& folder_;
  CheckpointWriter writer_;
  WorkList work_;
  std::vector<Progressing> entries_;
};

}  // namespace

std::vector<ValueTensor> input_values(const Plan& plan) {
  std::vector<ValueTensor> values;
  for (const PlanEntry& entry : plan.entries) {
    std::string module = entry.source.name;
    if (module.ends_with(".weight")) module.resize(module.size() - std::string_view(".weight").size());
    values.push_back({entry.source.name, std::move(module), {}});
    if (!entry.transposed) continue;
    Shape shape = entry.source.shape;  // [out, in], which a kept Conv1D is not
    if (!entry.quantized) std::swap(shape.at(0), shape.at(1));
    values.back().transposed_shape = std::move(shape);
  }
  return values;
}

std::vector<ValueTensor> output_values(const Plan& plan) {
  std::vector<ValueTensor> values;
  for (const PlanEntry& entry : plan.entries)
    values.push_back(
        {entry.parts.empty() ? "" : entry.module + entry.parts.front().suffix, entry.module, {}});
  return values;
}

std::vector<WorkItem> work_items(const Plan& plan, const ValueReader& input) {
  std::vector<WorkItem> items;
  for (std::size_t e = 0; e < plan.entries.size(); ++e) {
    const PlanEntry& entry = plan.entries[e];
    WorkItem item;
    item.elements = count_of(entry.source.shape);
    const ReadMemory reading = input.memory(e, plan.rest_dtype);
    item.bytes_per_element = reading.per_element + 2;  // codes and statistics of the output
    item.bytes_held = reading.held;
    if (entry.quantized && plan.quant.method == QuantMethod::kInt8) item.row = entry.source.shape.at(1);
    if (entry.quantized && plan.quant.nested)
      item.bytes_held +=
          (item.elements / plan.quant.block_size + 1) * (size_of(DType::kF32) + size_of(DType::kU8));
    items.push_back(item);
  }
  return items;
}

std::vector<PlannedTensor> output_tensors(const Plan& plan) {
  std::vector<PlannedTensor> tensors;
  for (const PlanEntry& entry : plan.entries)
    for (const Part& part : entry.parts)
      tensors.push_back({{entry.module + part.suffix, part.dtype, part.shape},
                         entry.quantized && plan.quant.nested && is_quant_state(part)});
  return tensors;
}

std::int64_t total_parameters(const Plan& plan) {
  std::int64_t total = 0;
  for (const PlanEntry& entry : plan.entries) {
    if (entry.parts.empty()) continue;
    const bool packed = entry.quantized && plan.quant.method == QuantMethod::kBlock4;
    total += packed ? 2 * entry.parts.front().bytes() : count_of(entry.source.shape);
  }
  return total;
}

QuantizedCheckpoint quantize_checkpoint(const Checkpoint& source, const Plan& plan,
                                        const Quantizer& quantizer, AtomicFolder& folder,
                                        const StreamOptions& options) {
  const Work work = work_of(source, plan, options.max_shard_bytes, options.made_by);
  if (!folder.notes().empty() && options.resumed)
    if (const std::string why = difference(folder.notes().front(), work); !why.empty())
      options.resumed({0, 0, why});
  return Stream(source, plan, quantizer, folder, options, line_of(work)).run();
}

}  // namespace qtool
