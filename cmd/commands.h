// The rows of the program: what `qtool` can be told to do.
#pragma once

#include <span>

#include "cmd/cli.h"

namespace qtool {

std::span<const Subcommand> subcommands();  // in the order in which --help lists them

}  // namespace qtool
