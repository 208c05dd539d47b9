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
  // `part` is the expert's number where the role is one of experts.
  virtual Weight linear(Role role, int layer, int part = -1) = 0;

  // The bias of a linear layer [out] or of a norm, in its stored float type; nothing if it has none.
  virtual std::optional<Tensor> bias(Role role, int layer, int part = -1) = 0;

  // An embedding [vocab, hidden], learned positions or a norm's weight, in its stored float type. Norms that
  // a file keeps head by head come as one, [heads * head_dim].
  virtual Tensor dense(Role role, int layer) = 0;

  // How many threads may ask at the same time. Linear weights are then read ahead, as many at once.
  virtual int concurrent_calls() const { return 1; }
};

}  // namespace qtool
