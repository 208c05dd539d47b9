#include "core/text/decoder.h"

#include <charconv>
#include <optional>
#include <utility>

#include "core/text/byte_alphabet.h"
#include "core/text/utf8.h"

namespace qtool {

namespace {

constexpr std::size_t kNoLimit = std::string::npos;

// The byte that "<0x41>" stands for.
std::optional<char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) return std::nullopt;
  unsigned byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(static_cast<unsigned char>(byte));
}

std::string bytes_of_token(std::string_view token) {
  std::optional<std::string> bytes = bytes_from_chars(token);
  return bytes ? std::move(*bytes)
               : std::string(token);  // an added token that is not spelled in the alphabet
}

std::string stripped(std::string_view token, const DecodeStrip& step) {
  for (int i = 0; i < step.start && token.starts_with(step.content); ++i)
    token.remove_prefix(step.content.size());
  for (int i = 0; i < step.stop && token.ends_with(step.content); ++i)
    token.remove_suffix(step.content.size());
  return std::string(token);
}

}  // namespace

DecoderRun::DecoderRun(const std::vector<DecoderStep>& steps) : steps_(steps), states_(steps.size()) {
  bool fused = false;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    states_[i].fused = fused;
    fused = fused || std::holds_alternative<DecodeFuse>(steps[i]) ||
            std::holds_alternative<DecodeByteLevel>(steps[i]);
  }
}

std::string DecoderRun::push(std::string_view token) {
  feed(0, std::string(token));
  return std::exchange(out_, {});
}

std::string DecoderRun::finish() {
  for (std::size_t step = 0; step < steps_.size(); ++step) end(step);
  return std::exchange(out_, {});
}

void DecoderRun::forget_output() {
  for (std::size_t step = 0; step < steps_.size(); ++step) {
    State& state = states_[step];
    if (const auto* word_end = std::get_if<DecodeWordEnd>(&steps_[step])) {
      // The prompt's last token was shown without a space behind it; what continues it has to begin with one.
      state.held = state.held.ends_with(word_end->suffix) ? word_end->suffix : std::string();
      continue;
    }
    state.held.erase(0, state.held.size() - unfinished_tail(state.held));
    state.from_prompt = state.held.size();
  }
  out_.clear();
}

void DecoderRun::feed(std::size_t step, std::string text) {
  if (step == steps_.size()) {
    out_ += text;
    return;
  }
  if (waits_for_all(step)) {
    states_[step].held += text;
    return;
  }
  std::visit([&](const auto& row) { apply(step, row, std::move(text)); }, steps_[step]);
  states_[step].first = false;
}

// Behind Fuse a token arrives in fragments. Steps that must see it whole wait for the end; in published
// tokenizers only Strip stands there, which need not.
bool DecoderRun::waits_for_all(std::size_t step) const {
  if (!states_[step].fused) return false;
  const DecoderStep& row = steps_[step];
  if (const auto* strip = std::get_if<DecodeStrip>(&row)) return strip->stop > 0;
  return std::holds_alternative<DecodeReplace>(row) || std::holds_alternative<DecodeByteFallback>(row) ||
         std::holds_alternative<DecodeByteLevel>(row) || std::holds_alternative<DecodeWordEnd>(row);
}

std::string DecoderRun::whole_token(std::size_t step, std::string text) const {
  const DecoderStep& row = steps_[step];
  if (const auto* replace = std::get_if<DecodeReplace>(&row))
    return replace_all(replace->pattern, text, replace->content, kNoLimit);
  if (const auto* strip = std::get_if<DecodeStrip>(&row)) return stripped(text, *strip);
  if (std::holds_alternative<DecodeByteLevel>(row)) return to_valid_utf8(bytes_of_token(text));
  if (const auto* word_end = std::get_if<DecodeWordEnd>(&row))
    return replace_all(word_end->suffix, text, "", kNoLimit);
  if (const std::optional<char> byte = byte_of_token(text)) return to_valid_utf8({&*byte, 1});
  return text;
}

void DecoderRun::end(std::size_t step) {
  State& state = states_[step];
  if (waits_for_all(step)) {
    feed(step + 1, whole_token(step, std::exchange(state.held, {})));
  } else if (std::holds_alternative<DecodeByteFallback>(steps_[step])) {
    flush_bytes(step);
  } else if (const auto* word_end = std::get_if<DecodeWordEnd>(&steps_[step])) {
    feed(step + 1, replace_all(word_end->suffix, std::exchange(state.held, {}), "", kNoLimit));
  } else if (!state.held.empty()) {  // a character that ByteLevel never saw the end of
    if (state.from_prompt == 0) feed(step + 1, std::string(kReplacementCharacter));
    state.held.clear();
  }
}

void DecoderRun::apply(std::size_t step, const DecodeByteLevel&, const std::string& text) {
  State& state = states_[step];
  state.held += bytes_of_token(text);
  if (state.from_prompt > 0 && !state.held.empty()) {
    // What the prompt began is worth showing only if this token completed it.
    const Utf8Sequence sequence = first_sequence(state.held);
    if (sequence.state == Utf8State::kUnfinished) return;
    if (sequence.state == Utf8State::kInvalid) state.held.erase(0, static_cast<std::size_t>(sequence.bytes));
    state.from_prompt = 0;
  }
  const std::size_t ready = state.held.size() - unfinished_tail(state.held);
  std::string text_ready = to_valid_utf8(std::string_view(state.held).substr(0, ready));
  state.held.erase(0, ready);
  if (!text_ready.empty()) feed(step + 1, std::move(text_ready));
}

void DecoderRun::apply(std::size_t step, const DecodeByteFallback&, std::string text) {
  if (const std::optional<char> byte = byte_of_token(text)) {
    states_[step].held += *byte;
    return;
  }
  flush_bytes(step);
  feed(step + 1, std::move(text));
}

// The run of byte tokens is over: characters if all of it is UTF-8, else one U+FFFD a byte.
void DecoderRun::flush_bytes(std::size_t step) {
  State& state = states_[step];
  std::string bytes = std::exchange(state.held, {});
  std::size_t from_prompt = std::exchange(state.from_prompt, 0);
  if (bytes.empty()) return;
  if (is_valid_utf8(bytes)) {
    feed(step + 1, std::move(bytes));
    return;
  }
  for (std::size_t i = from_prompt; i < bytes.size(); ++i) feed(step + 1, std::string(kReplacementCharacter));
}

void DecoderRun::apply(std::size_t step, const DecodeFuse&, std::string text) {
  feed(step + 1, std::move(text));
}

void DecoderRun::apply(std::size_t step, const DecodeReplace& row, const std::string& text) {
  feed(step + 1, replace_all(row.pattern, text, row.content, kNoLimit));
}

void DecoderRun::apply(std::size_t step, const DecodeStrip& row, const std::string& text) {
  State& state = states_[step];
  if (!state.fused) {
    feed(step + 1, stripped(text, row));
    return;
  }
  // Fragments of one token: strip at its start until something else has come.
  std::string_view rest = text;
  while (state.stripped < row.start && rest.starts_with(row.content)) {
    rest.remove_prefix(row.content.size());
    ++state.stripped;
  }
  if (!rest.empty()) state.stripped = row.start;
  feed(step + 1, std::string(rest));
}

void DecoderRun::apply(std::size_t step, const DecodeMetaspace& row, const std::string& text) {
  const bool drops = row.strips_first && (states_[step].first || states_[step].fused);
  feed(step + 1, replace_all(row.replacement, text, drops ? "" : " ", kNoLimit));
}

// A token is certain only when another one follows: until then it may be the last.
void DecoderRun::apply(std::size_t step, const DecodeWordEnd& row, std::string text) {
  const std::string before = std::exchange(states_[step].held, std::move(text));
  if (!states_[step].first) feed(step + 1, replace_all(row.suffix, before, " ", kNoLimit));
}

void DecoderRun::apply(std::size_t step, const DecodeJoin& row, std::string text) {
  feed(step + 1, states_[step].first || states_[step].fused ? std::move(text) : row.separator + text);
}

}  // namespace qtool
