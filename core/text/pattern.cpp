#include "core/text/pattern.h"

#include "core/error.h"

namespace qtool {

void find_all(const Pattern& pattern, std::string_view text, std::vector<Span>& out) {
  if (const Regex* regex = std::get_if<Regex>(&pattern)) {
    regex->find_all(text, out);
    return;
  }
  const std::string& needle = std::get<std::string>(pattern);
  if (needle.empty()) return;
  for (std::size_t at = text.find(needle); at != std::string_view::npos;
       at = text.find(needle, at + needle.size()))
    out.push_back({at, at + needle.size()});
}

std::string replace_all(const Pattern& pattern, std::string_view text, std::string_view content,
                        std::size_t max_bytes, std::size_t* mark) {
  std::vector<Span> matches;
  find_all(pattern, text, matches);
  if (!matches.empty() && content.size() > max_bytes / matches.size())
    throw Error(ExitCode::kMalformed, "a Replace step of the tokenizer blows the text up to more than " +
                                          std::to_string(max_bytes) + " bytes");
  std::string out;
  out.reserve(text.size());
  std::size_t copied = 0;
  std::size_t moved_mark = mark ? *mark : 0;
  for (const Span& match : matches) {
    out += text.substr(copied, match.begin - copied);
    if (mark && match.end <= *mark)
      moved_mark += content.size() - (match.end - match.begin);
    else if (mark && match.begin < *mark)
      moved_mark = out.size();
    out += content;
    copied = match.end;
  }
  out += text.substr(copied);
  if (mark) *mark = moved_mark;
  return out;
}

}  // namespace qtool
