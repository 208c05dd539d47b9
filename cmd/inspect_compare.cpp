// qtool inspect --hash, --diff: is it the same model?
#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "cmd/inspect.h"
#include "cmd/parallel.h"
#include "cmd/table.h"
#include "cmd/tensor_stats.h"
#include "core/interrupt.h"
#include "core/quant/quantizer.h"
#include "core/sha256.h"
#include "formats/weights_io.h"

namespace qtool {
namespace {

constexpr std::int64_t kChunk = std::int64_t{4} << 20;  // bytes

// The bytes of a stored tensor, a piece at a time.
class Pieces {
 public:
  Pieces(const Checkpoint& checkpoint, const StoredTensor& tensor)
      : checkpoint_(checkpoint), tensor_(tensor) {}

  std::span<const std::byte> next() {  // empty at the end
    stop_if_interrupted();
    const std::int64_t size = std::min(kChunk, tensor_.info.bytes - done_);
    if (size <= 0) return {};
    bytes_.resize(static_cast<std::size_t>(size));
    checkpoint_.read(tensor_, done_, bytes_);
    done_ += size;
    return bytes_;
  }

 private:
  const Checkpoint& checkpoint_;
  const StoredTensor& tensor_;
  std::int64_t done_ = 0;
  std::vector<std::byte> bytes_;
};

std::map<std::string, std::string> hashes_of(const Checkpoint& checkpoint, const CommonOptions& common) {
  std::vector<std::pair<std::string, const StoredTensor*>> work;
  for (const auto& [name, stored] : checkpoint.tensors()) work.emplace_back(name, &stored);
  std::vector<std::string> hashes(work.size());
  Progress progress(common, "hashing", checkpoint.bytes());
  for_each_index(work.size(), thread_count(common), [&](std::size_t i) {
    Pieces pieces(checkpoint, *work[i].second);
    Sha256 hash;
    for (auto piece = pieces.next(); !piece.empty(); piece = pieces.next()) {
      hash.update(piece);
      progress.advance(static_cast<std::int64_t>(piece.size()));
    }
    hashes[i] = hash.hex_digest();
  });
  std::map<std::string, std::string> named;
  for (std::size_t i = 0; i < work.size(); ++i) named[work[i].first] = hashes[i];
  return named;
}

// The values of a tensor, dequantized where they are quantized, as one float32 array.
Tensor values_of(const Checkpoint& checkpoint, const LogicalTensor& tensor) {
  if (tensor.quant) return dequantize(read_weight(checkpoint, tensor.module, 0.0f), DType::kF32);
  Tensor values(DType::kF32, tensor.shape);
  ValueStream stream(checkpoint, checkpoint.at(tensor.name));
  float* out = values.as<float>().data();
  for (auto chunk = stream.next(); !chunk.empty(); chunk = stream.next())
    for (const double value : chunk) *out++ = static_cast<float>(value);
  return values;
}

struct Distance {
  double relative_rmse = 0;  // sqrt(sum (here - there)^2 / sum here^2)
  double largest = 0;        // max |here - there|
};

Distance distance(const Tensor& here, const Tensor& there) {
  const auto a = here.as<float>();
  const auto b = there.as<float>();
  double error = 0;
  double signal = 0;
  Distance result;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]);
    const double off = std::abs(x - static_cast<double>(b[i]));
    error += off * off;
    signal += x * x;
    result.largest = off > result.largest || std::isnan(off) ? off : result.largest;
  }
  result.relative_rmse = error == 0 ? 0 : std::sqrt(error / signal);
  return result;
}

struct Difference {
  std::string name, here, there;  // forms and shapes
  std::optional<Distance> distance;
};

bool same_bytes(const Checkpoint& a, const StoredTensor& here, const Checkpoint& b,
                const StoredTensor& there) {
  if (here.info.dtype != there.info.dtype || here.info.shape != there.info.shape) return false;
  Pieces ours(a, here);
  Pieces theirs(b, there);
  for (auto piece = ours.next(); !piece.empty(); piece = ours.next())
    if (!std::ranges::equal(piece, theirs.next())) return false;
  return true;
}

bool same_bytes(const Checkpoint& a, const LogicalTensor& here, const Checkpoint& b,
                const LogicalTensor& there) {
  const std::set<std::string> pieces(here.pieces.begin(), here.pieces.end());
  return pieces == std::set<std::string>(there.pieces.begin(), there.pieces.end()) &&
         std::all_of(pieces.begin(), pieces.end(),
                     [&](const std::string& piece) { return same_bytes(a, a.at(piece), b, b.at(piece)); });
}

std::string described(const LogicalTensor& tensor) { return tensor.form() + " " + text_of(tensor.shape); }

Json config_differences(const Json& here, const Json& there) {
  Json keys = Json::array();
  std::set<std::string> all;
  for (const auto& item : here.items()) all.insert(item.key());
  for (const auto& item : there.items()) all.insert(item.key());
  for (const std::string& key : all)
    if (!here.contains(key) || !there.contains(key) || here[key] != there[key])
      keys.push_back({{"key", key},
                      {"here", here.contains(key) ? here[key] : Json()},
                      {"there", there.contains(key) ? there[key] : Json()}});
  return keys;
}

}  // namespace

void print_hashes(const Checkpoint& checkpoint, const CommonOptions& common) {
  const auto hashes = hashes_of(checkpoint, common);
  Sha256 whole;
  Json tensors = Json::object();
  std::string text;
  for (const auto& [name, hash] : hashes) {
    const TensorInfo& stored = checkpoint.at(name).info;
    whole.update(name + " " + std::string(info(stored.dtype).name) + " " + text_of(stored.shape) + " " +
                 hash + "\n");
    tensors[name] = hash;
    text += hash + "  " + escaped(name) + "\n";
  }
  const std::string all = whole.hex_digest();
  if (common.json)
    print_json({{"schema", "qtool.inspect/1"},
                {"folder", escaped(checkpoint.folder())},
                {"hash", {{"algorithm", "sha256"}, {"whole", all}, {"tensors", tensors}}}});
  else
    print_out(text + all + "  (all)\n");
}

bool print_difference(const Checkpoint& here, const Checkpoint& there, const CommonOptions& common) {
  const std::vector<LogicalTensor> ours = logical_tensors(here);
  std::map<std::string, const LogicalTensor*> theirs;
  const std::vector<LogicalTensor> others = logical_tensors(there);
  for (const LogicalTensor& tensor : others) theirs[tensor.name] = &tensor;

  std::vector<const LogicalTensor*> only_here;
  std::vector<std::pair<const LogicalTensor*, const LogicalTensor*>> both;
  for (const LogicalTensor& tensor : ours) {
    const auto found = theirs.find(tensor.name);
    if (found == theirs.end()) {
      only_here.push_back(&tensor);
    } else {
      both.emplace_back(&tensor, found->second);
      theirs.erase(found);
    }
  }
  std::vector<std::optional<Difference>> results(both.size());
  Progress progress(common, "comparing", here.bytes());
  for_each_index(both.size(), thread_count(common), [&](std::size_t i) {
    const auto& [a, b] = both[i];
    if (!same_bytes(here, *a, there, *b)) {
      results[i] = Difference{a->name, described(*a), described(*b), std::nullopt};
      if (a->shape == b->shape && a->faults.empty() && b->faults.empty())
        results[i]->distance = distance(values_of(here, *a), values_of(there, *b));
    }
    progress.advance(a->bytes);
  });
  const Json config = config_differences(here.config(), there.config());

  Json differing = Json::array();
  Table table(
      {{"differs"}, {"here"}, {"there"}, {"rel. RMSE", Align::kRight}, {"max |diff|", Align::kRight}});
  for (const auto& result : results) {
    if (!result) continue;
    Json row{{"name", result->name}, {"here", result->here}, {"there", result->there}};
    row["rel_rmse"] = result->distance ? Json(result->distance->relative_rmse) : Json();
    row["max_abs"] = result->distance ? Json(result->distance->largest) : Json();
    differing.push_back(row);
    table.add({escaped(result->name), result->here, result->there,
               result->distance ? shortened(result->distance->relative_rmse) : "-",
               result->distance ? shortened(result->distance->largest) : "-"});
  }
  Json names_here = Json::array();
  Json names_there = Json::array();
  for (const LogicalTensor* tensor : only_here) names_here.push_back(tensor->name);
  for (const auto& [name, tensor] : theirs) names_there.push_back(name);
  const std::size_t identical = both.size() - differing.size();
  const bool differ = !differing.empty() || !names_here.empty() || !names_there.empty() || !config.empty();
  if (common.json) {
    print_json({{"schema", "qtool.inspect/1"},
                {"folder", escaped(here.folder())},
                {"diff",
                 {{"other", escaped(there.folder())},
                  {"identical", identical},
                  {"differing", differing},
                  {"only_here", names_here},
                  {"only_there", names_there},
                  {"config", config}}}});
    return differ;
  }
  std::string text;
  if (!table.empty()) text += table.text() + "\n";
  for (const auto& [title, names] :
       {std::pair{"only here", &names_here}, std::pair{"only there", &names_there}}) {
    for (const Json& name : *names)
      text += std::string(title) + ": " + escaped(name.get<std::string>()) + "\n";
    if (!names->empty()) text += "\n";
  }
  for (const Json& row : config)
    text += "config.json " + escaped(row["key"].get<std::string>()) + ": " + escaped(row["here"].dump()) +
            " -> " + escaped(row["there"].dump()) + "\n";
  if (!config.empty()) text += "\n";
  const auto counted = [](std::size_t n) { return grouped(static_cast<std::int64_t>(n)); };
  print_out(text + counted(identical) + " tensors identical, " + counted(differing.size()) + " differ, " +
            counted(names_here.size()) + " only here, " + counted(names_there.size()) + " only there\n");
  return differ;
}

}  // namespace qtool
