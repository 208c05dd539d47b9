// Tokens -> syntax tree, after the grammar of Jinja 3.1 with the tags that chat templates have: its own
// without those that need other templates, `break` and `continue`, and Hugging Face's `generation`.
#pragma once

#include <string_view>

#include "core/text/jinja/ast.h"

namespace qtool::jinja {

// Errors: kMalformed (syntax) and kUnsupported (a tag qtool does not know), naming line and construct.
Body parse(std::string_view source);

}  // namespace qtool::jinja
