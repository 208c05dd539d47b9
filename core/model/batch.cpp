#include "core/model/batch.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "core/model/continuation.h"
#include "core/model/rope.h"
#include "core/model/sequence.h"

namespace qtool {
namespace {

using Clock = std::chrono::steady_clock;

// A step that reads prompts costs about a quarter more than one that reads none, however many join in it. So
// those who wait join when the places that stood empty have cost as much: never more than twice the best that
// could be done with the ends foreseen.
constexpr std::int64_t kJoinsInAStep = 4;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A request on its way.
struct Active {
  Active(Transformer& transformer, int place, BatchRequest& asked)
      : slot(place),
        prompt_tokens(static_cast<std::int64_t>(asked.prompt.size())),
        sequence(transformer, place),
        continuation(std::move(asked.params), std::move(asked.output), prompt_tokens,
                     transformer.capacity().context_tokens),
        done(std::move(asked.done)) {
    sequence.extend(asked.prompt);
  }

  int slot;
  std::int64_t prompt_tokens;
  Sequence sequence;
  Continuation continuation;
  std::function<void(BatchResult)> done;
  Clock::time_point start = Clock::now();  // of reading the prompt, then of decoding
  bool prompt_read = false;
  double prefill_s = 0.0;
  std::int64_t steps = 0, bytes_read = 0;  // of decoding
  bool over = false;
};

// A row of a step whose logits are wanted; `index`: of its token in the sequence.
struct Wanted {
  Active* active;
  std::int64_t row;
  std::int64_t index;
};

class Runner {
 public:
  Runner(Transformer& transformer, const std::function<std::optional<BatchRequest>()>& next)
      : transformer_(transformer), next_(next) {
    const ModelSpec& spec = transformer.spec();
    const bool follows =
        rope_depends_on_length(spec.rope) || (spec.local_rope && rope_depends_on_length(*spec.local_rope));
    slots_ = follows ? 1 : transformer.capacity().sequences;
    for (int slot = slots_; slot-- > 0;) free_.push_back(slot);
  }

  BatchFigures run() {
    while (admit()) {
      step();
      std::erase_if(active_, [](const auto& active) { return active->over; });
    }
    return figures_;
  }

 private:
  // Fills the free places, if that is worth it; false when nothing is left to do.
  bool admit() {
    const std::int64_t empty = empty_ + static_cast<std::int64_t>(free_.size());  // with the step to come
    const bool worth_it = active_.empty() || empty * kJoinsInAStep >= slots_;
    while (worth_it && !exhausted_ && !free_.empty()) {
      std::optional<BatchRequest> request = next_();
      if (!request) {
        exhausted_ = true;
        break;
      }
      try {
        check_prompt(request->prompt, transformer_.spec().vocab_size, transformer_.capacity().context_tokens);
      } catch (const Error& error) {
        request->done({{}, error});
        continue;
      }
      active_.push_back(std::make_unique<Active>(transformer_, free_.back(), *request));
      free_.pop_back();
      empty_ = 0;
    }
    return !active_.empty();
  }

  void step() {
    segments_.clear();
    ids_.clear();
    on_logits_.clear();
    on_device_.clear();
    const Capacity& capacity = transformer_.capacity();
    std::int64_t length = 0;
    for (const bool prompts : {false, true})  // newest tokens first: there is always room for those
      for (const auto& active : active_) {
        const bool waits = active->sequence.pending() > 1 || !active->prompt_read;
        const std::int64_t budget = capacity.chunk_tokens - static_cast<std::int64_t>(ids_.size());
        if (waits != prompts || budget == 0) continue;
        add(*active, budget);
        length = std::max(length, active->sequence.length());
      }
    transformer_.forward(segments_, ids_, length, asked());
    empty_ += static_cast<std::int64_t>(free_.size());
    ++figures_.steps;
    figures_.sequences += static_cast<std::int64_t>(segments_.size());
    take_tokens();
    take_logits();
  }

  // Of all tokens, if the step has one of each sequence.
  Transformer::UpTo asked() const {
    using enum Transformer::UpTo;
    return !on_device_.empty() ? kTokens : !on_logits_.empty() ? kLogits : kLayers;
  }

  // Adds the sequence's next tokens, at most `budget`, to the step, and notes which logits are wanted of
  // them.
  void add(Active& active, std::int64_t budget) {
    Sequence& sequence = active.sequence;
    const Segment segment = sequence.next(budget);
    const std::span<const std::int32_t> ids = sequence.ids_of(segment);
    if (segment.position == 0 && !active.prompt_read) active.start = Clock::now();
    const auto first_row = static_cast<std::int64_t>(ids_.size());
    segments_.push_back(segment);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    sequence.mark_computed(segment);
    if (active.prompt_read) {
      ++active.steps;
      active.bytes_read += transformer_.bytes_per_decode_step(sequence.length());
    } else {
      figures_.prompt_tokens += segment.tokens;
    }

    const bool of_all = active.continuation.wants_prompt_logits() && !active.prompt_read;
    auto& list = of_all || active.continuation.wants_logits() ? on_logits_ : on_device_;
    for (std::int64_t i = of_all ? 0 : segment.tokens - 1; i < segment.tokens; ++i)
      if (of_all || sequence.pending() == 0) list.push_back({&active, first_row + i, segment.position + i});
  }

  // Calls use(first, count) for as many of the wanted rows at a time as the workspace holds; their numbers
  // are then in rows_.
  template <typename Use>
  void in_pieces(const std::vector<Wanted>& wanted, const Use& use) {
    const auto most = static_cast<std::size_t>(transformer_.capacity().logit_rows);
    for (std::size_t first = 0; first < wanted.size(); first += most) {
      const std::size_t count = std::min(most, wanted.size() - first);
      rows_.clear();
      for (std::size_t i = 0; i < count; ++i) rows_.push_back(wanted[first + i].row);
      use(first, count);
    }
  }

  void take_tokens() {
    in_pieces(on_device_, [&](std::size_t first, std::size_t count) {
      tokens_.resize(count);
      transformer_.greedy(rows_, tokens_);
      for (std::size_t i = 0; i < count; ++i)
        proceed(*on_device_[first + i].active, [&](Active& active) {
          if (tokens_[i] < 0) throw non_finite_logits();
          active.continuation.adopt(tokens_[i]);
          return tokens_[i];
        });
    });
  }

  void take_logits() {
    const auto vocab = static_cast<std::size_t>(transformer_.spec().vocab_size);
    in_pieces(on_logits_, [&](std::size_t first, std::size_t count) {
      const std::span<const float> all = transformer_.logits(rows_);
      for (std::size_t i = 0; i < count; ++i) {
        const Wanted& wanted = on_logits_[first + i];
        const auto logits = all.subspan(i * vocab, vocab);
        const std::span<const std::int32_t> history = wanted.active->sequence.tokens();
        if (wanted.index + 1 < wanted.active->prompt_tokens)
          wanted.active->continuation.take_prompt(logits,
                                                  history[static_cast<std::size_t>(wanted.index) + 1]);
        else
          proceed(*wanted.active,
                  [&](Active& active) { return active.continuation.choose(logits, history); });
      }
    });
  }

  // All of the sequence is computed: `choose` says which token follows, if one is wanted.
  template <typename Choose>
  void proceed(Active& active, const Choose& choose) {
    if (!active.prompt_read) {
      active.prompt_read = true;
      active.prefill_s = seconds_since(active.start);
      active.start = Clock::now();
    }
    std::optional<Error> failure;
    if (!active.continuation.ended()) {
      try {
        const std::int32_t token = choose(active);
        ++figures_.new_tokens;
        if (!active.continuation.ended()) return active.sequence.extend({&token, 1});
      } catch (const Error& error) {
        if (error.code() != ExitCode::kMalformed) throw;  // not this sequence's own
        failure = error;
      }
    }
    active.over = true;
    free_.push_back(active.slot);
    BatchResult result{active.continuation.finish(), failure};
    Generation& out = result.generation;
    out.prefill_s = active.prefill_s;
    out.decode_s = seconds_since(active.start);
    out.decode_tokens = active.steps;
    if (active.steps > 0) out.decode_bytes_per_token = active.bytes_read / active.steps;
    active.done(std::move(result));
  }

  Transformer& transformer_;
  const std::function<std::optional<BatchRequest>()>& next_;
  int slots_ = 1;
  bool exhausted_ = false;
  std::vector<int> free_;
  std::int64_t empty_ = 0;  // places without a sequence, summed over the steps since one last joined
  std::vector<std::unique_ptr<Active>> active_;  // in the order in which they joined
  BatchFigures figures_;

  // Of one step.
  std::vector<Segment> segments_;
  std::vector<std::int32_t> ids_;
  std::vector<Wanted> on_logits_, on_device_;
  std::vector<std::int64_t> rows_;
  std::vector<std::int32_t> tokens_;
};

}  // namespace

BatchFigures run_batch(Transformer& transformer, const std::function<std::optional<BatchRequest>()>& next) {
  return Runner(transformer, next).run();
}

int sequences_that_fit(const ModelSpec& spec, std::int64_t context_tokens, DType kv_dtype,
                       std::int64_t available_bytes, int most) {
  const auto bytes = [&](int sequences) {
    return kv_cache_bytes(spec, sequences, context_tokens, kv_dtype) +
           workspace_bytes(spec, capacity_of(sequences, context_tokens));
  };
  int fit = 0, too_many = most + 1;
  while (too_many - fit > 1) {
    const int middle = fit + (too_many - fit) / 2;
    (bytes(middle) <= available_bytes ? fit : too_many) = middle;
  }
  return fit;
}

}  // namespace qtool
