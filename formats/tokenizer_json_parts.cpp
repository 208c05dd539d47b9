#include "formats/tokenizer_json_parts.h"

#include <functional>
#include <memory>
#include <utility>

#include "core/limits.h"
#include "core/text/utf8.h"
#include "formats/base64.h"
#include "formats/tokenizer_json_fields.h"

namespace qtool::tokenizer_json {

namespace {

// One step of a stage: how to read it. A stage's table is the list of what qtool knows.
template <typename Step>
struct Row {
  std::string_view type;
  void (*read)(const Json& part, const std::string& where, std::vector<Step>& out);
};

// Reads `part` by its row in `rows`; a Sequence (whose list is called `members`) is read member by member.
template <typename Step, std::size_t count>
void read_stage(const Json& part, const char* stage, const char* members, const Row<Step> (&rows)[count],
                const std::string& what, std::vector<Step>& out) {
  if (part.is_null()) return;
  const std::string& type = text(part, "type", what + ": " + stage);
  const std::string where = what + ": " + stage + " " + escaped(type).substr(0, 80);
  if (out.size() > kMaxTokenizerSteps) throw malformed(where, "more than 64 steps");
  if (type == "Sequence") {
    for (const Json& step : list(part, members, where)) read_stage(step, stage, members, rows, what, out);
    return;
  }
  std::string known = "Sequence";
  for (const Row<Step>& row : rows) {
    if (row.type != type) {
      known += ", " + std::string(row.type);
      continue;
    }
    try {
      row.read(part, where, out);
    } catch (const Error& error) {
      if (std::string_view(error.what()).starts_with(where)) throw;
      throw error.within(where);
    }
    return;
  }
  throw unknown(what, stage, type, known);
}

// What a step looks for in a text or puts into it.
const std::string& short_text(const Json& part, const char* key, const std::string& where) {
  const std::string& value = text(part, key, where);
  if (value.size() > kMaxStepBytes)
    throw malformed(where, std::string("'") + key + "' has " + std::to_string(value.size()) +
                               " bytes, more than " + std::to_string(kMaxStepBytes));
  return value;
}

Pattern pattern_from(const Json& part, const std::string& where) {
  const Json& pattern = member(part, "pattern", where);
  if (pattern.is_object() && pattern.contains("String")) return short_text(pattern, "String", where);
  if (pattern.is_object() && pattern.contains("Regex"))
    return Regex::from_oniguruma(text(pattern, "Regex", where));
  throw malformed(where, "'pattern' must be {\"String\": ...} or {\"Regex\": ...}");
}

const std::string& one_character(const Json& part, const char* key, const std::string& where) {
  const std::string& value = text(part, key, where);
  if (value.empty() || static_cast<std::size_t>(first_sequence(value).bytes) != value.size())
    throw malformed(where, std::string("'") + key + "' must be one character");
  return value;
}

template <NormalForm form>
void read_form(const Json&, const std::string&, std::vector<NormalizerStep>& out) {
  out.emplace_back(NormalizeForm{form});
}

constexpr Row<NormalizerStep> kNormalizers[] = {
    {"NFC", read_form<NormalForm::kNfc>},
    {"NFD", read_form<NormalForm::kNfd>},
    {"NFKC", read_form<NormalForm::kNfkc>},
    {"NFKD", read_form<NormalForm::kNfkd>},
    {"Lowercase", [](const Json&, const std::string&, auto& out) { out.push_back(NormalizeLowercase{}); }},
    {"StripAccents",
     [](const Json&, const std::string&, auto& out) { out.push_back(NormalizeStripAccents{}); }},
    {"Strip",
     [](const Json& part, const std::string& where, auto& out) {
       out.push_back(NormalizeStrip{optional_bool(part, "strip_left", true, where),
                                    optional_bool(part, "strip_right", true, where)});
     }},
    {"Prepend", [](const Json& part, const std::string& where,
                   auto& out) { out.push_back(NormalizePrepend{short_text(part, "prepend", where)}); }},
    {"Replace",
     [](const Json& part, const std::string& where, auto& out) {
       out.push_back(NormalizeReplace{pattern_from(part, where), short_text(part, "content", where)});
     }},
    {"Nmt", [](const Json&, const std::string&, auto& out) { out.push_back(NormalizeNmt{}); }},
    {"ByteLevel", [](const Json&, const std::string&, auto& out) { out.push_back(NormalizeByteLevel{}); }},
    {"Precompiled",
     [](const Json& part, const std::string& where, auto& out) {
       const std::optional<std::string> table = from_base64(text(part, "precompiled_charsmap", where));
       if (!table) throw malformed(where, "'precompiled_charsmap' is not base64");
       out.push_back(NormalizePrecompiled{std::make_shared<Charsmap>(*table)});
     }},
};

SplitBehavior behavior_from(const Json& part, const std::string& where) {
  static constexpr std::pair<std::string_view, SplitBehavior> kNames[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  };
  const std::string& name = text(part, "behavior", where);
  std::string known;
  for (const auto& [row, behavior] : kNames) {
    if (row == name) return behavior;
    known += (known.empty() ? "" : ", ") + std::string(row);
  }
  throw unknown(where, "behavior", name, known);
}

// Before `prepend_scheme` there was `add_prefix_space`. Newer versions of the reference refuse a file that
// has the old field alone and false; versions that wrote it meant kNever.
PrependScheme prepend_scheme_from(const Json& part, const std::string& where) {
  if (!has(part, "prepend_scheme"))
    return optional_bool(part, "add_prefix_space", true, where) ? PrependScheme::kAlways
                                                                : PrependScheme::kNever;
  const std::string& name = text(part, "prepend_scheme", where);
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  throw unknown(where, "prepend_scheme", name, "always, first, never");
}

constexpr Row<PreTokenizerStep> kPreTokenizers[] = {
    {"ByteLevel",
     [](const Json& part, const std::string& where, auto& out) {
       if (optional_bool(part, "add_prefix_space", true, where)) out.push_back(PrependSpace{});
       if (optional_bool(part, "use_regex", true, where))
         out.push_back(SplitByPattern{gpt2_pattern(), SplitBehavior::kIsolated, false});
       out.push_back(BytesToChars{});
     }},
    {"Split",
     [](const Json& part, const std::string& where, auto& out) {
       out.push_back(SplitByPattern{pattern_from(part, where), behavior_from(part, where),
                                    optional_bool(part, "invert", false, where)});
     }},
    {"Metaspace",
     [](const Json& part, const std::string& where, auto& out) {
       out.push_back(Metaspace{one_character(part, "replacement", where), prepend_scheme_from(part, where),
                               optional_bool(part, "split", true, where)});
     }},
    {"Digits",
     [](const Json& part, const std::string& where, auto& out) {
       const bool individual = optional_bool(part, "individual_digits", false, where);
       out.push_back(SplitByClass{CharClass::kNumeric,
                                  individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous});
     }},
    {"Punctuation",
     [](const Json& part, const std::string& where, auto& out) {
       out.push_back(SplitByClass{CharClass::kPunctuation, has(part, "behavior") ? behavior_from(part, where)
                                                                                 : SplitBehavior::kIsolated});
     }},
    {"Whitespace",
     [](const Json&, const std::string&, auto& out) {
       // \w and \s of Rust's regex library: UTS #18, with the two joiners.
       static const Regex words = Regex::from_pcre(
           "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]+|"
           "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}\\p{White_Space}]+");
       out.push_back(SplitByPattern{words, SplitBehavior::kRemoved, true});
     }},
    {"WhitespaceSplit",
     [](const Json&, const std::string&, auto& out) {
       out.push_back(SplitByClass{CharClass::kWhitespace, SplitBehavior::kRemoved});
     }},
    {"CharDelimiterSplit",
     [](const Json& part, const std::string& where, auto& out) {
       out.push_back(SplitByPattern{one_character(part, "delimiter", where), SplitBehavior::kRemoved, false});
     }},
    {"BertPreTokenizer",
     [](const Json&, const std::string&, auto& out) {
       out.push_back(SplitByClass{CharClass::kWhitespace, SplitBehavior::kRemoved});
       out.push_back(SplitByClass{CharClass::kPunctuation, SplitBehavior::kIsolated});
     }},
};

// [cls, id] or [sep, id] of the BERT family.
TokenId id_of_pair(const Json& part, const char* key, const std::string& where) {
  const Json& pair = list(part, key, where);
  if (pair.size() != 2) throw malformed(where, std::string("'") + key + "' must be [token, id]");
  return token_id(pair[1], where);
}

void read_bert_frame(const Json& part, const std::string& where, std::vector<Frame>& out) {
  out.push_back(Frame{{id_of_pair(part, "cls", where)}, {id_of_pair(part, "sep", where)}});
}

// "single": what stands around the text. Ids come from the table "special_tokens" beside it.
void read_template(const Json& part, const std::string& where, std::vector<Frame>& out) {
  Frame frame;
  bool seen = false;
  for (const Json& piece : list(part, "single", where)) {
    if (piece.is_object() && piece.contains("Sequence")) {
      if (seen || text(piece["Sequence"], "id", where) != "A")
        throw malformed(where, "'single' must name the sequence A exactly once");
      seen = true;
    } else if (piece.is_object() && piece.contains("SpecialToken")) {
      const std::string& name = text(piece["SpecialToken"], "id", where);
      const Json& row = member(member(part, "special_tokens", where), name.c_str(), where);
      for (const Json& id : list(row, "ids", where))
        (seen ? frame.after : frame.before).push_back(token_id(id, where));
    } else {
      throw malformed(where, "a piece of 'single' is neither a Sequence nor a SpecialToken");
    }
  }
  if (!seen) throw malformed(where, "'single' must name the sequence A exactly once");
  out.push_back(std::move(frame));
}

constexpr Row<Frame> kPostProcessors[] = {
    {"TemplateProcessing", read_template},
    {"ByteLevel", [](const Json&, const std::string&, std::vector<Frame>&) {}},  // only moves offsets
    {"RobertaProcessing", read_bert_frame},
    {"BertProcessing", read_bert_frame},
};

constexpr Row<DecoderStep> kDecoders[] = {
    {"ByteLevel", [](const Json&, const std::string&, auto& out) { out.push_back(DecodeByteLevel{}); }},
    {"ByteFallback", [](const Json&, const std::string&, auto& out) { out.push_back(DecodeByteFallback{}); }},
    {"Fuse", [](const Json&, const std::string&, auto& out) { out.push_back(DecodeFuse{}); }},
    {"Replace",
     [](const Json& part, const std::string& where, auto& out) {
       out.push_back(DecodeReplace{pattern_from(part, where), short_text(part, "content", where)});
     }},
    {"Strip",
     [](const Json& part, const std::string& where, auto& out) {
       out.push_back(DecodeStrip{one_character(part, "content", where), small_count(part, "start", where),
                                 small_count(part, "stop", where)});
     }},
    {"Metaspace",
     [](const Json& part, const std::string& where, auto& out) {
       out.push_back(DecodeMetaspace{one_character(part, "replacement", where),
                                     prepend_scheme_from(part, where) != PrependScheme::kNever});
     }},
    {"BPEDecoder",
     [](const Json& part, const std::string& where, auto& out) {
       const std::string suffix = optional_string(part, "suffix", "</w>", where);
       if (suffix.empty()) throw malformed(where, "'suffix' must not be empty");
       out.push_back(DecodeWordEnd{suffix});
     }},
};

}  // namespace

std::vector<NormalizerStep> normalizer_from(const Json& part, const std::string& what) {
  std::vector<NormalizerStep> steps;
  read_stage(part, "normalizer", "normalizers", kNormalizers, what, steps);
  return steps;
}

std::vector<PreTokenizerStep> pre_tokenizer_from(const Json& part, const std::string& what) {
  std::vector<PreTokenizerStep> steps;
  read_stage(part, "pre_tokenizer", "pretokenizers", kPreTokenizers, what, steps);
  return steps;
}

std::vector<Frame> frames_from(const Json& part, const std::string& what) {
  std::vector<Frame> frames;
  read_stage(part, "post_processor", "processors", kPostProcessors, what, frames);
  return frames;
}

std::vector<DecoderStep> decoder_from(const Json& part, const std::string& what) {
  if (part.is_null()) return {DecodeJoin{" "}};
  std::vector<DecoderStep> steps;
  read_stage(part, "decoder", "decoders", kDecoders, what, steps);
  return steps;
}

}  // namespace qtool::tokenizer_json
