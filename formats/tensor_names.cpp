#include "formats/tensor_names.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/error.h"
#include "formats/architecture_row.h"

namespace qtool {
namespace {

constexpr std::string_view kHole = "{}";

// The numbers that stand in a pattern's holes: layer, then part; -1 without one.
struct Numbers {
  int layer = -1;
  int part = -1;
};

// The digits that `text` begins with, as a number. "01" and "+1" name no layer that anything else would find.
std::optional<int> take_number(std::string_view& text) {
  std::size_t length = 0;
  while (length < text.size() && text[length] >= '0' && text[length] <= '9') ++length;
  const std::string_view digits = text.substr(0, length);
  int number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + length, number);
  if (length == 0 || error != std::errc() || end != digits.data() + length ||
      (length > 1 && digits[0] == '0'))
    return std::nullopt;
  text.remove_prefix(length);
  return number;
}

// If `text` is `pattern`, which may hold up to two holes: the numbers in their places.
std::optional<Numbers> match(std::string_view pattern, std::string_view text) {
  Numbers numbers;
  for (int* number : {&numbers.layer, &numbers.part}) {
    const auto hole = pattern.find(kHole);
    if (hole == std::string_view::npos) break;
    if (!text.starts_with(pattern.substr(0, hole))) return std::nullopt;
    text.remove_prefix(hole);
    pattern.remove_prefix(hole + kHole.size());
    const std::optional<int> found = take_number(text);
    if (!found) return std::nullopt;
    *number = *found;
  }
  if (text != pattern) return std::nullopt;
  return numbers;
}

std::string filled(std::string_view pattern, int layer, int part) {
  std::string name(pattern);
  for (const int number : {layer, part})
    if (const auto hole = name.find(kHole); hole != std::string::npos)
      name.replace(hole, kHole.size(), std::to_string(number));
  return name;
}

// A way of writing a family's names: `stored` in place of `canonical` at their beginning.
struct Spelling {
  std::string_view stored, canonical;
};

constexpr std::size_t kSpellings = 6;
std::array<Spelling, kSpellings> spellings_of(const Architecture& architecture) {
  const std::string_view base = architecture.base_prefix;
  return {{{"", ""},
           {"", base},
           {"language_model.", ""},
           {"language_model.", base},
           {"model.language_model.", base},
           {"model.text_model.", base}}};
}

std::optional<std::string> respelled(std::string_view name, std::string_view from, std::string_view to) {
  if (!name.starts_with(from)) return std::nullopt;
  return std::string(to) + std::string(name.substr(from.size()));
}

struct Found {
  const ModuleName* row;
  Numbers numbers;
};

std::optional<Found> find_module(const Architecture& architecture, std::string_view name) {
  for (const Spelling& spelling : spellings_of(architecture)) {
    const auto canonical = respelled(name, spelling.stored, spelling.canonical);
    if (!canonical) continue;
    for (const ModuleName& row : architecture.modules)
      if (const auto numbers = match(row.name, *canonical)) return Found{&row, *numbers};
  }
  return std::nullopt;
}

// Buffers that old versions of transformers saved with the model: causal masks and rotary frequencies.
constexpr std::string_view kBuffers[] = {"attn.bias", "attn.masked_bias", "attention.bias",
                                         "attention.masked_bias", "rotary_emb.inv_freq"};

// What stands beside the language model in multimodal checkpoints.
constexpr std::string_view kOtherModels[] = {"vision_tower.",
                                             "vision_model.",
                                             "multi_modal_projector.",
                                             "model.vision_tower.",
                                             "model.vision_model.",
                                             "model.connector.",
                                             "model.visual.",
                                             "model.multi_modal_projector.",
                                             "model.image_newline",
                                             "image_newline",
                                             "visual.",
                                             "model.embed_vision.",
                                             "model.mm_projector.",
                                             "model.audio_tower.",
                                             "audio_tower."};

bool is_buffer(std::string_view name) {
  return std::any_of(std::begin(kBuffers), std::end(kBuffers), [&](std::string_view buffer) {
    return name == buffer || (name.ends_with(buffer) && name[name.size() - buffer.size() - 1] == '.');
  });
}

bool is_other_model(std::string_view name) {
  return std::any_of(std::begin(kOtherModels), std::end(kOtherModels),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

struct Suffix {
  std::string_view text;
  Piece piece;
};
constexpr Suffix kSuffixes[] = {{".weight", Piece::kWeight}, {".bias", Piece::kBias}};

}  // namespace

std::optional<TensorRole> role_of(const Architecture& architecture, std::string_view name) {
  for (const Suffix& suffix : kSuffixes) {
    if (!name.ends_with(suffix.text)) continue;
    const std::string_view module = name.substr(0, name.size() - suffix.text.size());
    if (const auto found = find_module(architecture, module))
      return TensorRole{found->row->role, found->numbers.layer, suffix.piece, found->numbers.part};
  }
  if (is_buffer(name) || is_other_model(name)) return TensorRole{Role::kIgnored, -1, Piece::kWeight};
  return std::nullopt;
}

std::string_view why_ignored(std::string_view name) {
  return is_other_model(name) ? "not part of the language model"
                              : "a buffer that the model computes for itself";
}

std::optional<std::string> canonical_module(const Architecture& architecture, std::string_view name) {
  const auto found = find_module(architecture, name);
  if (!found) return std::nullopt;
  return filled(found->row->name, found->numbers.layer, found->numbers.part);
}

std::string module_name(const Architecture& architecture, Role role, int layer, int part) {
  for (const ModuleName& row : architecture.modules)
    if (row.role == role) return filled(row.name, layer, part);
  throw internal_error("an architecture without the role that was asked for");
}

std::string stored_module(const Checkpoint& checkpoint, const Architecture& architecture, Role role,
                          int layer, int part) {
  std::string found;
  for (const ModuleName& row : architecture.modules) {
    if (row.role != role) continue;
    const std::string canonical = filled(row.name, layer, part);
    for (const Spelling& spelling : spellings_of(architecture)) {
      const auto name = respelled(canonical, spelling.canonical, spelling.stored);
      if (!name || *name == found || (!checkpoint.has(*name + ".weight") && !checkpoint.has(*name + ".bias")))
        continue;
      if (!found.empty())
        throw Error(ExitCode::kMalformed,
                    "'" + found + "' and '" + *name + "' are two names of the same module");
      found = *name;
    }
  }
  return found.empty() ? module_name(architecture, role, layer, part) : found;
}

bool stored_by_head(const Architecture& architecture, Role role) {
  if (role != Role::kQueryNorm && role != Role::kKeyNorm) return false;
  return module_name(architecture, role, 0, 0) != module_name(architecture, role, 0, 1);
}

ModuleKind kind_of(const Architecture& architecture, Role role) {
  for (const ModuleName& row : architecture.modules)
    if (row.role == role) return row.kind;
  return ModuleKind::kOther;
}

}  // namespace qtool
