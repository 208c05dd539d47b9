#include "formats/resume.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/sha256.h"
#include "formats/checkpoint_writer.h"
#include "formats/model_files.h"
#include "formats/quant_config.h"
#include "formats/quantize_checkpoint.h"
#include "formats/system_error.h"

namespace qtool {
namespace {

namespace fs = std::filesystem;

std::int64_t time_of_change(const std::string& path) {
  std::error_code failure;
  const auto time = fs::last_write_time(path, failure);
  if (failure) throw system_failure("cannot look at", path, failure);
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

Json json_of(const Shape& shape) { return Json(std::vector<std::int64_t>(shape.begin(), shape.end())); }

std::string digest_of(const Json& description) {
  Sha256 digest;
  // Names of files need not be UTF-8.
  digest.update(description.dump(-1, ' ', false, Json::error_handler_t::replace));
  return digest.hex_digest();
}

}  // namespace

Work work_of(const Checkpoint& source, const Plan& plan, std::int64_t max_shard_bytes,
             const std::string& made_by) {
  Json files = Json::array();
  for (const InputFile& file : source.files())
    files.push_back({fs::path(file.path()).filename().string(), file.size(), time_of_change(file.path())});
  Json stored = Json::array();
  for (const auto& [name, tensor] : source.tensors())
    stored.push_back({name, tensor.file, static_cast<int>(tensor.info.dtype), json_of(tensor.info.shape),
                      tensor.info.begin, tensor.info.transposed});

  Json tensors = Json::array();
  for (const PlanEntry& entry : plan.entries) {
    Json parts = Json::array();
    for (const Part& part : entry.parts)
      parts.push_back({part.suffix, static_cast<int>(part.dtype), json_of(part.shape)});
    tensors.push_back({entry.source.name, entry.module, entry.quantized, entry.transposed, parts});
  }
  const Json output = {output_config(source.config(), plan), static_cast<int>(plan.quant.method),
                       plan.quant.block_size, max_shard_bytes, tensors};
  return {made_by, digest_of(Json::array({source.config(), files, stored})), digest_of(output)};
}

std::string line_of(const Work& work) { return work.made_by + " " + work.source + " " + work.output; }

std::string difference(const std::string& line, const Work& work) {
  std::istringstream words(line);
  Work noted;
  words >> noted.made_by >> noted.source >> noted.output;
  if (noted.made_by != work.made_by) return "by another version of qtool";
  if (noted.source != work.source) return "from other files, or files that have changed since";
  if (noted.output != work.output) return "with other options";
  return "";
}

bool is_finished(const std::string& folder, const Checkpoint& source, const Plan& plan,
                 std::int64_t max_shard_bytes) {
  try {
    if (read_file(folder + "/config.json") != to_python_json(output_config(source.config(), plan)))
      return false;
    const Checkpoint output = Checkpoint::open(folder);
    std::vector<TensorSpec> specs;
    for (const PlannedTensor& planned : output_tensors(plan)) {
      if (!output.has(planned.spec.name)) return false;
      const TensorInfo& found = output.at(planned.spec.name).info;
      const bool same_shape =
          planned.open_length ? found.shape.size() == 1 : found.shape == planned.spec.shape;
      if (found.dtype != planned.spec.dtype || !same_shape) return false;
      specs.push_back({found.name, found.dtype, found.shape});
    }
    const ShardLayout layout = shard_layout(specs, max_shard_bytes);
    if (specs.size() != output.tensors().size() || layout.shards.size() != output.files().size())
      return false;

    std::int64_t newest_read = time_of_change(source.folder() + "/config.json");
    for (const InputFile& file : source.files())
      newest_read = std::max(newest_read, time_of_change(file.path()));
    for (const Shard& shard : layout.shards) {
      const std::string path = folder + "/" + shard.file;
      if (InputFile(path).size() != shard.layout.file_bytes || time_of_change(path) < newest_read)
        return false;
    }
    return true;
  } catch (const Error&) {  // whatever it is, it is not that
    return false;
  }
}

}  // namespace qtool
