// From the interface's residents to the GPU's own, and what the backend demands of its caller.
#pragma once

#include <string>
#include <type_traits>

#include "core/error.h"
#include "cuda/residents.h"

namespace qtool::cuda {

inline void require(bool holds, const char* what) {
  if (!holds) throw internal_error(std::string("cuda backend: ") + what);
}

template <typename Concrete, typename Interface>
auto& own(Interface& resident) {
  if constexpr (std::is_const_v<Interface>)
    return static_cast<const Concrete&>(resident);
  else
    return static_cast<Concrete&>(resident);
}

inline Values values_of(const Backend::Table& table) {
  const auto& own_table = own<CudaTable>(table);
  return {own_table.memory.as<void>(), own_table.dtype};
}

}  // namespace qtool::cuda
