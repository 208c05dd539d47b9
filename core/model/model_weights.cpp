#include "core/model/model_weights.h"

#include <deque>
#include <future>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/model/role_shape.h"

namespace qtool {
namespace {

std::string place_of(const TensorRole& tensor) {
  std::string text = std::string(name_of(tensor.role)) + (tensor.piece == Piece::kBias ? "'s bias" : "");
  if (tensor.part >= 0) text += " " + std::to_string(tensor.part);
  return tensor.layer < 0 ? "the " + text : "layer " + std::to_string(tensor.layer) + "'s " + text;
}

std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

void expect_shape(const Shape& found, const Shape& expected, const TensorRole& tensor) {
  if (found != expected)
    throw Error(ExitCode::kMalformed, place_of(tensor) + " has shape " + text_of(found) +
                                          " where the model needs " + text_of(expected) +
                                          "; the configuration and the weights disagree");
}

// The model's linear weights, in the order of layer_roles(). Where the source allows, the next ones are read,
// and quantized, while a backend takes this one: a 7B model in 16 bits is on an H100 in a third of the time.
class LinearWeights {
 public:
  LinearWeights(const ModelSpec& spec, WeightSource& source) : source_(source) {
    for (int layer = -1; layer < spec.layers; ++layer)
      for (const TensorRole& tensor : layer_roles(spec, layer))
        if (is_linear(tensor.role) && tensor.piece == Piece::kWeight) order_.push_back(tensor);
  }

  Weight next() {
    read_ahead();
    Weight weight = ahead_.front().get();
    ahead_.pop_front();
    read_ahead();
    return weight;
  }

 private:
  void read_ahead() {
    const int threads = source_.concurrent_calls();
    const auto most = static_cast<std::size_t>(threads);
    for (; ahead_.size() < most && started_ < order_.size(); ++started_)
      ahead_.push_back(std::async(threads > 1 ? std::launch::async : std::launch::deferred,
                                  [this, &tensor = order_[started_]] {
                                    return source_.linear(tensor.role, tensor.layer, tensor.part);
                                  }));
  }

  WeightSource& source_;
  std::vector<TensorRole> order_;
  std::size_t started_ = 0;
  std::deque<std::future<Weight>> ahead_;
};

}  // namespace

// Turns what the source gives into what the backend computes with.
class ModelLoader {
 public:
  ModelLoader(const ModelSpec& spec, Backend& backend, WeightSource& source, const ProductTypes& types,
              const std::function<void(std::int64_t)>& loaded)
      : spec_(spec),
        backend_(backend),
        source_(source),
        linears_(spec, source),
        types_(types),
        loaded_(loaded) {}

  RoleWeights load(int layer) {
    RoleWeights weights;
    const std::vector<TensorRole> roles = layer_roles(spec_, layer);
    for (std::size_t i = 0; i < roles.size(); ++i) {
      const TensorRole& tensor = roles[i];
      const std::size_t role = RoleWeights::index(tensor.role);
      if (!is_linear(tensor.role)) {
        auto& tables = tensor.piece == Piece::kBias ? weights.biases_ : weights.tables_;
        tables[role] = table(tensor);
      } else if (tensor.piece == Piece::kWeight) {
        const bool biased =
            i + 1 < roles.size() && roles[i + 1].role == tensor.role && roles[i + 1].piece == Piece::kBias;
        weights.linears_[role].push_back(linear(tensor, biased));
      }
    }
    if (layer < 0 && spec_.tied_head)
      weights.linears_[RoleWeights::index(Role::kHead)].push_back(tied_head(weights));
    return weights;
  }

 private:
  Tensor bias_of(TensorRole tensor) {
    tensor.piece = Piece::kBias;
    std::optional<Tensor> bias = source_.bias(tensor.role, tensor.layer, tensor.part);
    if (!bias)
      throw Error(ExitCode::kMalformed,
                  place_of(tensor) + " is missing; the configuration and the weights disagree");
    expect_shape(bias->shape(), bias_shape(spec_, tensor.role), tensor);
    return std::move(*bias);
  }

  std::unique_ptr<Backend::Table> table(const TensorRole& tensor) {
    if (tensor.piece == Piece::kBias) return report(backend_.make_table(bias_of(tensor)));
    Tensor values = source_.dense(tensor.role, tensor.layer);
    expect_shape(values.shape(), role_shape(spec_, tensor.role), tensor);
    return report(backend_.make_table(std::move(values)));
  }

  std::unique_ptr<Backend::Linear> linear(const TensorRole& tensor, bool biased) {
    Weight weight = linears_.next();
    expect_shape(qtool::shape_of(weight), role_shape(spec_, tensor.role), tensor);
    std::optional<Tensor> bias;
    if (biased) bias = bias_of(tensor);
    const bool packed4 = std::holds_alternative<Block4Weight>(weight);
    return report(
        backend_.make_linear(std::move(weight), std::move(bias), packed4 ? types_.packed : types_.dense));
  }

  std::unique_ptr<Backend::Linear> tied_head(const RoleWeights& weights) {
    if (spec_.head_bias)
      throw Error(ExitCode::kUnsupported,
                  "an output head that is the embedding and has a bias is not supported; set "
                  "tie_word_embeddings to false and store lm_head.weight");
    return backend_.make_tied_head(*weights.table(Role::kEmbedding), types_.dense);
  }

  template <typename Made>
  Made report(Made made) {
    if (loaded_) loaded_(made->bytes());
    return made;
  }

  const ModelSpec& spec_;
  Backend& backend_;
  WeightSource& source_;
  LinearWeights linears_;
  const ProductTypes& types_;
  const std::function<void(std::int64_t)>& loaded_;
};

ModelWeights load_weights(const ModelSpec& spec, Backend& backend, WeightSource& source,
                          const ProductTypes& types, const std::function<void(std::int64_t)>& loaded) {
  ModelLoader loader(spec, backend, source, types, loaded);
  ModelWeights weights;
  weights.outside = loader.load(-1);
  weights.layers.reserve(static_cast<std::size_t>(spec.layers));
  for (int layer = 0; layer < spec.layers; ++layer) weights.layers.push_back(loader.load(layer));
  return weights;
}

std::int64_t RoleWeights::bytes(Role role) const {
  std::int64_t bytes = 0;
  for (const auto& linear : linears_[index(role)]) bytes += linear->bytes();
  for (const auto* tables : {&tables_, &biases_})
    if (const auto& table = (*tables)[index(role)]) bytes += table->bytes();
  return bytes;
}

std::int64_t RoleWeights::bytes() const {
  std::int64_t total = 0;
  for (std::size_t role = 0; role < kRoles; ++role) total += bytes(static_cast<Role>(role));
  return total;
}

std::int64_t ModelWeights::bytes() const {
  std::int64_t bytes = outside.bytes();
  for (const RoleWeights& layer : layers) bytes += layer.bytes();
  return bytes;
}

std::int64_t ModelWeights::bytes_per_token(const ModelSpec& spec) const {
  std::int64_t read = bytes();
  const std::int64_t embedding = outside.bytes(Role::kEmbedding);
  read += embedding / spec.vocab_size - (spec.tied_head ? 0 : embedding);
  if (const std::int64_t positions = outside.bytes(Role::kPositions); positions > 0)
    read += positions / role_shape(spec, Role::kPositions)[0] - positions;
  for (const RoleWeights& layer : layers)
    for (const Role role : {Role::kExpertGate, Role::kExpertUp, Role::kExpertDown})
      if (const std::int64_t all = layer.bytes(role); all > 0)
        read -= all / spec.experts.experts * (spec.experts.experts - spec.experts.chosen);
  return read;
}

}  // namespace qtool
