#include "formats/shape_check.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/model/role_shape.h"
#include "formats/stored_weight.h"
#include "formats/tensor_names.h"

namespace qtool {
namespace {

std::string text_of(const Shape& shape) {
  std::string text;
  for (const std::int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "[" + text + "]";
}

class ShapeCheck {
 public:
  ShapeCheck(const Checkpoint& checkpoint, const Architecture& architecture, const ModelSpec& spec)
      : checkpoint_(checkpoint), architecture_(architecture), spec_(spec) {}

  void all() {
    for (const TensorRole& role : layer_roles(spec_, -1)) tensor(role);
    if (spec_.tied_head) tied_pair();
    for (int layer = 0; layer < spec_.layers; ++layer)
      for (const TensorRole& role : layer_roles(spec_, layer)) tensor(role);
    nothing_else();
  }

 private:
  using Key = std::tuple<Role, int, Piece>;

  void tensor(const TensorRole& role) {
    expected_.insert(Key{role.role, role.layer, role.piece});
    if (!stored_by_head(architecture_, role.role)) return tensor(role, role_shape(spec_, role.role));
    const Shape all = role_shape(spec_, role.role);
    for (int head = 0; head < all[0] / spec_.head_dim; ++head)
      tensor({role.role, role.layer, role.piece, head}, {spec_.head_dim});
  }

  void tensor(const TensorRole& role, const Shape& shape) const {
    if (spec_.tied_head && role.role == Role::kEmbedding) return;  // tied_pair() looks at it
    if (role.piece == Piece::kWeight)
      weight(role, shape);
    else
      bias(role);
  }

  // One of the two is there; both have the shape if both are.
  void tied_pair() {
    expected_.insert(Key{Role::kHead, -1, Piece::kWeight});
    const Shape shape = role_shape(spec_, Role::kEmbedding);
    bool found = false;
    for (const Role role : {Role::kEmbedding, Role::kHead}) {
      if (!checkpoint_.has(stored({role}) + ".weight")) continue;
      weight({role}, shape);
      found = true;
    }
    if (!found) weight({Role::kEmbedding}, shape);  // says that it is missing
  }

  void weight(const TensorRole& role, const Shape& shape) const {
    const std::string module = stored(role);
    const StoredWeight found = stored_weight_of(checkpoint_, module);
    const bool quantized = found.spec.method != QuantMethod::kNone;
    if (quantized && !is_linear(role.role))
      throw Error(ExitCode::kUnsupported,
                  "'" + module + "' is quantized, but qtool reads only quantized linear layers");
    Shape is = found.shape;
    Shape should_be = shape;
    if (!quantized && is_linear(role.role) &&
        kind_of(architecture_, role.role) == ModuleKind::kConv1D)  // stored [in, out]
      std::swap(should_be[0], should_be[1]);
    // Norms of single heads may be stored as [heads, head_dim].
    if (spec_.qk_norm == QkNorm::kEachHead && is.size() == 2 && is[1] == spec_.head_dim &&
        (role.role == Role::kQueryNorm || role.role == Role::kKeyNorm))
      is = {is[0] * is[1]};
    expect(module + ".weight", is, should_be);
  }

  void bias(const TensorRole& role) const {
    const std::string full = stored(role) + ".bias";
    const TensorInfo& tensor = checkpoint_.at(full).info;
    expect(full, tensor.shape, bias_shape(spec_, role.role));
    if (!info(tensor.dtype).is_float)
      throw Error(ExitCode::kMalformed, "'" + full + "' must be of floating-point numbers");
  }

  void expect(const std::string& name, const Shape& is, const Shape& should_be) const {
    if (is == should_be) return;
    throw Error(ExitCode::kMalformed, "tensor '" + name + "' has shape " + text_of(is) +
                                          ", but by config.json it is " + text_of(should_be));
  }

  // Experts beyond config.json's, and names that mean nothing, are left to whoever needs every tensor. A
  // model that left out layers would run and talk nonsense.
  void nothing_else() const {
    for (const auto& [name, tensor] : checkpoint_.tensors()) {
      const auto role = role_of(architecture_, name);
      if (!role || role->role == Role::kIgnored) continue;
      if (role->layer >= spec_.layers)
        throw Error(ExitCode::kMalformed,
                    "tensor '" + escaped(name) + "' belongs to layer " + std::to_string(role->layer) +
                        ", but by config.json there are " + std::to_string(spec_.layers) + " (from 0)");
      if (expected_.contains(Key{role->role, role->layer, role->piece})) continue;
      throw Error(ExitCode::kMalformed, "'" + escaped(name) +
                                            "' is there, but by config.json the model has no " +
                                            (role->piece == Piece::kBias ? "bias of this " : "") +
                                            std::string(name_of(role->role)));
    }
  }

  std::string stored(const TensorRole& role) const {
    return stored_module(checkpoint_, architecture_, role.role, role.layer, role.part);
  }

  const Checkpoint& checkpoint_;
  const Architecture& architecture_;
  const ModelSpec& spec_;
  std::set<Key> expected_;  // of all that such a model has
};

}  // namespace

void check_shapes(const Checkpoint& checkpoint, const Architecture& architecture, const ModelSpec& spec) {
  ShapeCheck(checkpoint, architecture, spec).all();
}

}  // namespace qtool
