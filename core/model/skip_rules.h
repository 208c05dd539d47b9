// Which modules a skip list (quantization_config's llm_int8_skip_modules) keeps from being quantized.
// transformers 4 and 5 read the same list by different rules; qtool writes only lists that mean the same in
// both.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace qtool {

// transformers 4 (_replace_with_bnb_linear): `key` is the module's leaf name, its full name, or "key." occurs
// anywhere.
bool transformers4_skips(std::string_view module, std::string_view key);

// transformers 5 (should_convert_module, up to 5.17): `key` as a pattern, "." for any character, matches the
// beginning of the module's name, or the name ends with `key`. Later releases match less, but all that is
// meant here.
bool transformers5_skips(std::string_view module, std::string_view key);

// What qtool's users mean: `key` is the full name or the leaf name of the module or of a module around it.
bool means(std::string_view key, std::string_view module);

struct SkipList {
  std::vector<std::string> keys;  // to be written: means the same under both rules
  std::set<std::string> skipped;  // the linear modules that the user's keys keep
};

// Modules are given by their full names.
struct SkipQuestion {
  // A linear layer that transformers 5 never quantizes, but 4 would; `key` is short for it and its like: a
  // leaf name, or the name of the list of experts it is in.
  struct Unreplaced {
    std::string module, key;
  };
  std::vector<std::string> automatic;  // keys that head the list in any case
  std::vector<std::string> user;       // the user's keys
  std::vector<std::string> linear;     // modules that are quantized unless a key says otherwise
  std::vector<Unreplaced> unreplaced;
  std::vector<std::string> all;  // modules there are
};

// The automatic keys, then what keeps the unreplaced modules from being taken for quantized ones by
// transformers 4, then the user's. A key that one of the rules would read otherwise is written out as the
// full names it means. Errors: kUsage for a user's key that means no module in `all`; kUnsupported when even
// full names are read differently.
SkipList resolve_skip_list(const SkipQuestion& question);

}  // namespace qtool
