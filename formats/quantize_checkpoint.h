// Quantizes a checkpoint into a folder while reading it: the streaming pipeline behind `qtool quantize`.
//
// The plan's tensors are cut into chunks of about a million values. Every thread takes the next chunk, reads
// it, quantizes it and writes the codes to their final place, so reading, computing and writing overlap, one
// huge tensor keeps all threads busy, and memory is bounded by one chunk a thread whatever the tensors'
// sizes and whatever form they come in. Only nested statistics need the whole tensor: its absmax (a sixteenth
// of its elements, in bytes) waits in memory until the last piece has come. Nothing depends on who does what
// when: the bytes are the same at any thread count.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/model/plan.h"
#include "core/quant/quantizer.h"
#include "formats/atomic_folder.h"
#include "formats/checkpoint.h"
#include "formats/checkpoint_writer.h"
#include "formats/value_reader.h"
#include "formats/work_list.h"

namespace qtool {

// What an interrupted run of the same work has left, when there is something.
struct Resumption {
  std::size_t files = 0;          // that are kept
  std::int64_t source_bytes = 0;  // that need not be read again
  std::string refused;            // why nothing is kept, in words; see difference() in resume.h
};

struct StreamOptions {
  int threads = 1;
  std::int64_t max_ram_bytes = 4'000'000'000;  // of the whole process; fewer threads run where it is short
  std::int64_t max_shard_bytes = 5'000'000'000;
  std::function<void(std::int64_t source_bytes)> progress;  // called by all threads; may be empty
  std::string made_by;  // the program's version: another version's files are not kept
  std::function<void(const Resumption&)> resumed;  // called before the work begins; may be empty
};

// How far a tensor's quantized values lie from what they stand for; see quantization_error.h.
struct TensorError {
  std::string name;
  double relative_rmse = 0.0;  // infinite or NaN where values are
};

struct QuantizedCheckpoint {
  ShardLayout layout;               // as written
  std::size_t rebuilt_files = 0;    // see checkpoint_writer.h
  std::vector<TensorError> errors;  // of quantized tensors in the plan's order, estimated from
                                    // kSampledElements values at the begin of every chunk
};

// The tensors of the output; a nested weight's quant_state has a foreseen length.
std::vector<PlannedTensor> output_tensors(const Plan& plan);

// Parameters as transformers counts them in an index: a 4-bit weight as two a byte.
std::int64_t total_parameters(const Plan& plan);

// Writes the weights of `plan`, made of `source`'s tensors (quantized ones are dequantized), into `folder`,
// which the caller commits. Errors: kIo (also when the disk lacks space for what is planned, before writing),
// kMemory, kInterrupted, those of read_weight().
QuantizedCheckpoint quantize_checkpoint(const Checkpoint& source, const Plan& plan,
                                        const Quantizer& quantizer, AtomicFolder& folder,
                                        const StreamOptions& options);

// For whoever goes through a plan's tensors chunk by chunk: entry i as it is stored in the input and in the
// output, and as work (what a thread holds to read it as float32 or quantize it). written_entries() lists the
// entries that have an output.
std::vector<ValueTensor> input_values(const Plan& plan);
std::vector<ValueTensor> output_values(const Plan& plan);
std::vector<WorkItem> work_items(const Plan& plan, const ValueReader& input);
std::vector<std::size_t> written_entries(const Plan& plan);

}  // namespace qtool
