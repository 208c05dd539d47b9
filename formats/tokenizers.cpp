#include "formats/tokenizers.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/file.h"
#include "formats/sentencepiece_model.h"
#include "formats/tokenizer_config.h"
#include "formats/tokenizer_json.h"

namespace qtool {

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& folder) {
  const std::string json = folder + "/tokenizer.json";
  const std::string model = folder + "/tokenizer.model";
  const bool has_json = exists(json);
  if (!has_json && !exists(model))
    throw Error(ExitCode::kNotFound,
                "no tokenizer in " + folder + ": neither tokenizer.json nor tokenizer.model", folder);
  const std::string path = has_json ? json : model;
  try {
    const TokenizerConfig config = read_tokenizer_config(folder);
    TokenizerParts parts;
    if (has_json) {
      parts = parts_from_tokenizer_json(read_json_file(json), "tokenizer.json");
      complete(parts, config);
    } else {
      parts = parts_from_sentencepiece(read_file(model), config, "tokenizer.model");
    }
    return make_tokenizer(std::move(parts));
  } catch (const Error& error) {
    throw Error(error.code(), error.what(), error.path().empty() ? path : error.path());
  }
}

}  // namespace qtool
