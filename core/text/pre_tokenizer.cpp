#include "core/text/pre_tokenizer.h"

#include <algorithm>

#include "core/text/byte_alphabet.h"
#include "core/text/utf8.h"

namespace qtool {

namespace {

struct Part {
  Span span;
  bool is_match;
};

// Matches (ordered, without overlap) and the text between them as one row of parts that covers `size` bytes.
void cover(const std::vector<Span>& matches, std::size_t size, bool invert, std::vector<Part>& parts) {
  parts.clear();
  std::size_t done = 0;
  for (const Span& match : matches) {
    if (done != match.begin) parts.push_back({{done, match.begin}, invert});
    parts.push_back({match, !invert});
    done = match.end;
  }
  if (done != size) parts.push_back({{done, size}, invert});
}

// Joins the parts that `behavior` keeps together; what is removed gets no span.
void arrange(const std::vector<Part>& parts, SplitBehavior behavior, std::vector<Span>& out) {
  out.clear();
  bool previous = false;
  if (behavior == SplitBehavior::kMergedWithNext) {
    for (std::size_t i = parts.size(); i-- > 0;) {
      if (parts[i].is_match && !previous && !out.empty())
        out.back().begin = parts[i].span.begin;
      else
        out.push_back(parts[i].span);
      previous = parts[i].is_match;
    }
    out = {out.rbegin(), out.rend()};
    return;
  }
  for (const Part& part : parts) {
    bool joins = false;
    switch (behavior) {
      case SplitBehavior::kRemoved:
        if (part.is_match) continue;
        break;
      case SplitBehavior::kMergedWithPrevious:
        joins = part.is_match && !previous;
        break;
      case SplitBehavior::kContiguous:
        joins = part.is_match == previous;
        break;
      case SplitBehavior::kIsolated:
      case SplitBehavior::kMergedWithNext:
        break;
    }
    if (joins && !out.empty())
      out.back().end = part.span.end;
    else
      out.push_back(part.span);
    previous = part.is_match;
  }
}

void find_class(CharClass which, std::string_view text, std::vector<Span>& out) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    if (is_in(which, next_code_point(text, i))) out.push_back({begin, i});
  }
}

// Replaces every piece by the spans that `find` sees in it.
template <typename Find>
void split(Pieces& pieces, SplitBehavior behavior, bool invert, const Find& find) {
  std::vector<Span> result;
  std::vector<Span> matches;
  std::vector<Part> parts;
  std::vector<Span> arranged;
  const std::string_view text = pieces.text;
  for (const Span& piece : pieces.spans) {
    matches.clear();
    find(text.substr(piece.begin, piece.end - piece.begin), matches);
    cover(matches, piece.end - piece.begin, invert, parts);
    arrange(parts, behavior, arranged);
    for (const Span& span : arranged)
      if (span.begin != span.end) result.push_back({piece.begin + span.begin, piece.begin + span.end});
  }
  pieces.spans = std::move(result);
}

// Rewrites every piece; `rewrite(piece, is_first, out)` appends the new text, character by character.
template <typename Rewrite>
void rewrite_each(Pieces& pieces, const Rewrite& rewrite) {
  std::string text;
  text.reserve(pieces.text.size() + pieces.text.size() / 4 + pieces.spans.size());
  const std::string_view old = pieces.text;
  std::size_t first_bytes = 0;
  for (Span& span : pieces.spans) {
    const std::size_t begin = text.size();
    const bool is_first = span.begin < pieces.first_bytes;
    if (is_first) {
      // What becomes of the piece's share in the first character is the front of what becomes of the piece.
      rewrite(old.substr(span.begin, std::min(span.end, pieces.first_bytes) - span.begin), true, text);
      first_bytes = text.size();
      text.resize(begin);
    }
    rewrite(old.substr(span.begin, span.end - span.begin), is_first, text);
    span = {begin, text.size()};
  }
  pieces.first_bytes = first_bytes;
  pieces.text = std::move(text);
}

struct Apply {
  Pieces& pieces;

  void operator()(const SplitByPattern& step) {
    split(pieces, step.behavior, step.invert,
          [&step](std::string_view text, std::vector<Span>& out) { find_all(step.pattern, text, out); });
  }
  void operator()(const SplitByClass& step) {
    split(pieces, step.behavior, false,
          [&step](std::string_view text, std::vector<Span>& out) { find_class(step.which, text, out); });
  }
  void operator()(const PrependSpace&) {
    rewrite_each(pieces, [](std::string_view piece, bool, std::string& out) {
      if (!piece.starts_with(' ')) out += ' ';
      out += piece;
    });
  }
  void operator()(const BytesToChars&) {
    rewrite_each(pieces,
                 [](std::string_view piece, bool, std::string& out) { append_bytes_as_chars(piece, out); });
  }
  void operator()(const Metaspace& step) {
    rewrite_each(pieces, [&step](std::string_view piece, bool is_first, std::string& out) {
      const bool has_one = piece.starts_with(' ') || piece.starts_with(step.replacement);
      const bool wanted =
          step.prepend == PrependScheme::kAlways || (step.prepend == PrependScheme::kFirst && is_first);
      if (wanted && !has_one) out += step.replacement;
      for (const char c : piece) {
        if (c == ' ')
          out += step.replacement;
        else
          out += c;
      }
    });
    if (step.split) (*this)(SplitByPattern{step.replacement, SplitBehavior::kMergedWithNext, false});
  }
};

}  // namespace

Regex gpt2_pattern() {
  static const Regex pattern =
      Regex::from_oniguruma(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
  return pattern;
}

Pieces whole(std::string text, std::size_t first_bytes) {
  Pieces pieces{std::move(text), {}, first_bytes};
  if (!pieces.text.empty()) pieces.spans.push_back({0, pieces.text.size()});
  return pieces;
}

void pre_tokenize(const std::vector<PreTokenizerStep>& steps, Pieces& pieces) {
  Apply apply{pieces};
  for (const PreTokenizerStep& step : steps) std::visit(apply, step);
}

}  // namespace qtool
