// `loop`: where a {% for %} stands.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/text/jinja/builtins.h"

namespace qtool::jinja {

class Loop final : public Object {
 public:
  // `passes`: the loop's own condition, asked only when an item is reached; empty where there is none.
  Loop(std::vector<Value> items, std::function<bool(const Value&)> passes)
      : items_(std::move(items)), passes_(std::move(passes)) {}

  // The next item, or nullopt at the end.
  std::optional<Value> next();
  void leave() { passes_ = nullptr; }  // nothing can be asked of the loop's scope any more

  std::string_view type_name() const override { return "LoopContext"; }
  std::optional<Value> attribute(Interpreter& interpreter, const std::string& name) override;
  void release() override { last_changed_.reset(); }

 private:
  friend class LoopMethod;

  std::optional<Value> fetch();
  const std::optional<Value>& peek();
  std::int64_t length();

  std::vector<Value> items_;
  std::function<bool(const Value&)> passes_;
  std::size_t at_ = 0;
  std::int64_t index0_ = -1;
  std::optional<std::int64_t> length_;
  bool peeked_ = false;
  std::optional<Value> after_;  // where peeked_
  Value before_, current_;
  std::optional<Value> last_changed_;
};

}  // namespace qtool::jinja
