// generate --batch-file: many prompts, one JSON line each.
#pragma once

#include "cmd/cli.h"
#include "cmd/generate_options.h"

namespace qtool {

// Answers the lines of options.batch_file in their order, each as soon as it and those before it are done. A
// line that fails has its error in its place; the others go on. Returns 0. Errors: when all is answered, the
// first failed line's code; before, what keeps any line from being answered.
int generate_batch(const CommonOptions& common, const GenerateOptions& options);

}  // namespace qtool
