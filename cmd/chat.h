// `qtool generate` at a terminal, with nothing to continue: a conversation, a line at a time.
#pragma once

#include "cmd/generate_options.h"

namespace qtool {

// Whether a person is there who may be asked, and no prompt was given.
bool wants_chat(const CommonOptions& common, const GenerateOptions& options);

// Asks on stderr, answers on stdout. What was said before is part of every prompt, put into the model's chat
// template; without one (or with --raw) the text so far is continued. Ctrl-C stops an answer, Ctrl-D ends the
// conversation. Errors: those of loading the model and of its template.
int chat(const CommonOptions& common, const GenerateOptions& options);

}  // namespace qtool
