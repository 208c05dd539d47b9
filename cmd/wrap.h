// Prose fitted to a width. Text is UTF-8; a character counts as one column.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qtool {

// The words of `text` in lines of at most `columns` characters; a longer word has a line of its own.
std::vector<std::string> wrapped(std::string_view text, std::size_t columns);

// Columns that text for people on stdout may take: those of the terminal, between 80 and 100; 100 where
// stdout is no terminal.
std::size_t text_columns();

}  // namespace qtool
