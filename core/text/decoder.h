// The way back: token spellings -> text, one token at a time.
//
// A decoder is a row of steps. Each step takes the tokens' spellings one after the other and hands text to
// the next, as soon as it is certain: bytes that begin a character wait for its end. decode() of a whole
// sequence is the same machine run to its end, so streaming can never disagree with it.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/text/pattern.h"

namespace qtool {

// The steps of tokenizer.json under their own names; "Sequence" is the vector.
struct DecodeByteLevel {};  // characters of the byte-level alphabet become bytes, then UTF-8
struct DecodeByteFallback {
};                     // runs of <0x..> tokens become bytes; a run that is not UTF-8 as a whole is all U+FFFD
struct DecodeFuse {};  // what follows sees one token
struct DecodeReplace {  // within a token
  Pattern pattern;
  std::string content;
};
struct DecodeStrip {    // up to so many `content` at a token's ends
  std::string content;  // one character
  int start;
  int stop;
};
struct DecodeMetaspace {  // replacement -> space, but nothing in the first token if `strips_first`
  std::string replacement;
  bool strips_first;
};
struct DecodeWordEnd {  // suffix -> space, but nothing in the last token ("BPEDecoder")
  std::string suffix;   // not empty
};
struct DecodeJoin {  // tokens with `separator` between them
  std::string separator;
};
using DecoderStep = std::variant<DecodeByteLevel, DecodeByteFallback, DecodeFuse, DecodeReplace, DecodeStrip,
                                 DecodeMetaspace, DecodeWordEnd, DecodeJoin>;

// One run of a decoder. `steps` must outlive it.
class DecoderRun {
 public:
  explicit DecoderRun(const std::vector<DecoderStep>& steps);

  // The next token's spelling -> the text that became certain.
  std::string push(std::string_view token);

  // Draws the line between prompt and continuation: what came before yields no more output. Only bytes that
  // begin a character stay, in case the continuation completes it.
  void forget_output();

  // What is left; bytes that never became a character come out as U+FFFD. The run is over.
  std::string finish();

 private:
  struct State {
    bool fused = false;           // all that reaches this step belongs to one token
    bool first = true;            // nothing has passed yet
    std::string held;             // waits for what comes
    std::size_t from_prompt = 0;  // so many bytes at the front of `held` come from before forget_output()
    int stripped = 0;             // characters taken off the current token's start
  };
  void feed(std::size_t step, std::string text);
  void end(std::size_t step);  // no more input for this step
  void apply(std::size_t step, const DecodeByteLevel&, const std::string& text);
  void apply(std::size_t step, const DecodeByteFallback&, std::string text);
  void apply(std::size_t step, const DecodeFuse&, std::string text);
  void apply(std::size_t step, const DecodeReplace&, const std::string& text);
  void apply(std::size_t step, const DecodeStrip&, const std::string& text);
  void apply(std::size_t step, const DecodeMetaspace&, const std::string& text);
  void apply(std::size_t step, const DecodeWordEnd&, std::string text);
  void apply(std::size_t step, const DecodeJoin&, std::string text);
  void flush_bytes(std::size_t step);
  bool waits_for_all(std::size_t step) const;
  std::string whole_token(std::size_t step, std::string text) const;

  const std::vector<DecoderStep>& steps_;
  std::vector<State> states_;
  std::string out_;
};

}  // namespace qtool
