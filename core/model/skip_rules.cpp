#include "core/model/skip_rules.h"

#include <algorithm>

#include "core/error.h"

namespace qtool {
namespace {

std::string_view leaf_of(std::string_view module) {
  const auto dot = module.rfind('.');
  return dot == std::string_view::npos ? module : module.substr(dot + 1);
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// Does the pattern, in which "." stands for any character, match the beginning of `text`?
bool matches_beginning(std::string_view pattern, std::string_view text) {
  if (pattern.size() > text.size()) return false;
  for (std::size_t i = 0; i < pattern.size(); ++i)
    if (pattern[i] != '.' && pattern[i] != text[i]) return false;
  return true;
}

using Names = std::vector<std::string>;

Names meant_by(const std::string& key, const Names& modules) {
  Names out;
  std::copy_if(modules.begin(), modules.end(), std::back_inserter(out),
               [&](const std::string& module) { return means(key, module); });
  return out;
}

// Whether both rules skip, of the linear modules, exactly what the user means by `key`.
bool read_as_meant(const std::string& key, const Names& linear) {
  return std::all_of(linear.begin(), linear.end(), [&](const std::string& module) {
    const bool meant = means(key, module);
    return transformers4_skips(module, key) == meant && transformers5_skips(module, key) == meant;
  });
}

void append_new(Names& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

// What to write so that transformers 4 does not replace a module: the short key if it spares all that is
// quantized, else the full name.
const std::string& key_of(const SkipQuestion::Unreplaced& kept, const Names& linear) {
  const bool spares_the_rest = std::none_of(linear.begin(), linear.end(), [&](const std::string& quantized) {
    return transformers4_skips(quantized, kept.key) || transformers5_skips(quantized, kept.key);
  });
  return spares_the_rest && transformers4_skips(kept.module, kept.key) ? kept.key : kept.module;
}

[[noreturn]] void means_nothing(const std::string& key, const Names& linear) {
  Names leaves;
  for (const std::string& module : linear) append_new(leaves, std::string(leaf_of(module)));
  std::string list;
  for (const std::string& leaf : leaves) list += (list.empty() ? "" : ", ") + leaf;
  throw Error(ExitCode::kUsage, "--skip-modules: the model has no module '" + escaped(key) +
                                    "'; name one by its full name or its last part: " + escaped(list));
}

}  // namespace

bool transformers4_skips(std::string_view module, std::string_view key) {
  return leaf_of(module) == key || module == key ||
         module.find(std::string(key) + ".") != std::string_view::npos;
}

bool transformers5_skips(std::string_view module, std::string_view key) {
  return matches_beginning(key, module) || ends_with(module, key);
}

bool means(std::string_view key, std::string_view module) {
  while (true) {
    if (module == key || leaf_of(module) == key) return true;
    const auto dot = module.rfind('.');
    if (dot == std::string_view::npos) return false;
    module = module.substr(0, dot);
  }
}

SkipList resolve_skip_list(const SkipQuestion& question) {
  const Names& linear = question.linear;
  SkipList list;
  for (const std::string& key : question.automatic) append_new(list.keys, key);
  for (const SkipQuestion::Unreplaced& kept : question.unreplaced)
    append_new(list.keys, key_of(kept, linear));
  for (const std::string& key : question.user) {
    const bool known =
        std::find(question.automatic.begin(), question.automatic.end(), key) != question.automatic.end();
    if (!known && (key.empty() || meant_by(key, question.all).empty())) means_nothing(key, linear);
    const Names meant = meant_by(key, linear);
    list.skipped.insert(meant.begin(), meant.end());
    if (meant.empty()) continue;  // a norm or an embedding, or kept anyway
    if (read_as_meant(key, linear)) {
      append_new(list.keys, key);
      continue;
    }
    for (const std::string& module : meant) {
      if (!read_as_meant(module, linear))
        throw Error(ExitCode::kUnsupported, "--skip-modules: transformers 4 and 5 would disagree on what '" +
                                                escaped(module) +
                                                "' keeps; name its neighbours of the same beginning, too");
      append_new(list.keys, module);
    }
  }
  return list;
}

}  // namespace qtool
