// Where a model's weights come from: a checkpoint on disk, or anything a test makes up.
#pragma once

#include <optional>

#include "core/model/roles.h"
#include "core/quant/weight.h"
#include "core/tensor.h"

namespace qtool {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The weight of a linear layer, packed as stored, or quantized while it is read. Each is asked for once.
  virtual Weight linear(Role role, int layer) = 0;

  // The bias of a linear layer [out] in its stored float type; nothing if it has none.
  virtual std::optional<Tensor> bias(Role role, int layer) = 0;

  // An embedding [vocab, hidden] or a norm's weight [hidden], in its stored float type.
  virtual Tensor dense(Role role, int layer) = 0;
};

}  // namespace qtool
