// Which files of a repository a model needs: one rule for the Hub's listing and for what a folder holds.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "formats/hub/listing.h"

namespace qtool {

// Whether a file is taken along whatever the weights are: config.json, tokenizer, generation and chat
// template files, licences, and the index of the weights.
bool is_small_model_file(const std::string& path);

// Where the weights are, by transformers' order: model.safetensors, its index, else the one other
// .safetensors file; only without those pytorch_model.bin or its index, then an adapter's weights. Other
// formats and second copies (GGUF, ONNX, consolidated*, original/) are never taken.
struct WeightChoice {
  std::string index;               // the file that names the shards; empty: `files` are all
  std::vector<std::string> files;  // both empty: no weights qtool could use
};
WeightChoice weight_files(const std::set<std::string>& names);

// The shards an index names, sorted. Errors: kMalformed, kNotFound, kIo.
std::vector<std::string> shards_of(const std::string& index_path);

// What a folder of the cache holds of a model. huggingface_hub may have left out whatever nobody asked for.
struct Holdings {
  bool config = false;
  bool tokenizer = false;
  bool weights = false;  // all of them
};
Holdings holdings_of(const std::string& folder);

}  // namespace qtool
