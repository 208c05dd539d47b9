// How filters are declared: rows of tables that filters.cpp joins.
#pragma once

#include <map>
#include <string_view>

#include "core/text/jinja/builtins.h"

namespace qtool::jinja {

struct FilterRow {
  const char* parameters;
  Value (*run)(Interpreter&, const Value& subject, const Bound& given);
};
using FilterTable = std::map<std::string_view, FilterRow>;

const FilterTable& text_filters();      // of strings and numbers
const FilterTable& sequence_filters();  // of what can be walked through

// item|attr of map, sort, join and the others: "a.b.0" is item['a']['b'][0]. None: the item itself.
Value attribute_at(Interpreter& interpreter, const Value& item, const Value& attribute,
                   const Value* fallback = nullptr);

}  // namespace qtool::jinja
