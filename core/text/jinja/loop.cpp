#include "core/text/jinja/loop.h"

namespace qtool::jinja {

std::optional<Value> Loop::fetch() {
  while (at_ < items_.size()) {
    const Value& item = items_[at_++];
    if (!passes_ || passes_(item)) return item;
  }
  return std::nullopt;
}

const std::optional<Value>& Loop::peek() {
  if (!peeked_) {
    after_ = fetch();
    peeked_ = true;
  }
  return after_;
}

std::optional<Value> Loop::next() {
  std::optional<Value> item = peeked_ ? std::move(after_) : fetch();
  peeked_ = false;
  if (!item) return item;
  ++index0_;
  before_ = std::move(current_);
  current_ = *item;
  return item;
}

// Of a filtered loop only known once the rest has been filtered.
std::int64_t Loop::length() {
  if (length_) return *length_;
  if (passes_) {
    std::vector<Value> rest;
    while (std::optional<Value> item = fetch()) rest.push_back(std::move(*item));
    items_ = std::move(rest);
    at_ = 0;
    passes_ = nullptr;
    length_ = static_cast<std::int64_t>(items_.size()) + index0_ + 1 + (peeked_ && after_ ? 1 : 0);
  } else {
    length_ = static_cast<std::int64_t>(items_.size());
  }
  return *length_;
}

// loop.cycle() and loop.changed()
class LoopMethod final : public Object {
 public:
  LoopMethod(std::shared_ptr<Loop> loop, bool cycles) : loop_(std::move(loop)), cycles_(cycles) {}
  std::string_view type_name() const override { return "method"; }
  bool is_callable() const override { return true; }

  Value call(Interpreter& interpreter, Arguments arguments) override {
    if (!arguments.keyword.empty()) fail("loop's methods take no named arguments");
    if (cycles_) {
      if (arguments.positional.empty()) fail("loop.cycle() without values");
      const auto count = static_cast<std::int64_t>(arguments.positional.size());
      return arguments.positional[static_cast<std::size_t>(loop_->index0_ % count)];
    }
    Value values = make_tuple(std::move(arguments.positional));
    if (loop_->last_changed_ && equal(*loop_->last_changed_, values)) return false;
    if (!loop_->last_changed_) interpreter.adopt(loop_);  // the values may hold the loop itself
    loop_->last_changed_ = std::move(values);
    return true;
  }

 private:
  std::shared_ptr<Loop> loop_;
  bool cycles_;
};

std::optional<Value> Loop::attribute(Interpreter&, const std::string& name) {
  if (name == "index") return index0_ + 1;
  if (name == "index0") return index0_;
  if (name == "first") return index0_ == 0;
  if (name == "last") return !peek();
  if (name == "length") return length();
  if (name == "revindex") return length() - index0_;
  if (name == "revindex0") return length() - index0_ - 1;
  if (name == "depth") return 1;
  if (name == "depth0") return 0;
  if (name == "previtem") return index0_ > 0 ? before_ : Value::undefined("there is no previous item");
  if (name == "nextitem") return peek() ? *peek() : Value::undefined("there is no next item");
  if (name == "cycle" || name == "changed") {
    auto self = std::static_pointer_cast<Loop>(shared_from_this());
    return ObjectPtr(std::make_shared<LoopMethod>(std::move(self), name == "cycle"));
  }
  return std::nullopt;
}

}  // namespace qtool::jinja
