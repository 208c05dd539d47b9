// Walks a syntax tree and renders it. Templates come from strangers: how long they run, how deep they call
// themselves and how much they make is bounded.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/limits.h"
#include "core/text/jinja/ast.h"
#include "core/text/jinja/value.h"

namespace qtool::jinja {

using Names = std::vector<std::pair<std::string, Value>>;

// Names that are visible together; a name set in an inner scope hides the outer one.
class Scope {
 public:
  explicit Scope(std::shared_ptr<Scope> outer = nullptr) : outer_(std::move(outer)) {}

  const Value* find(std::string_view name) const;
  void set(const std::string& name, Value value);

 private:
  Names names_;
  std::shared_ptr<Scope> outer_;
};

enum class Flow : std::uint8_t { kOn, kBreak, kContinue };

class Interpreter {
 public:
  // `now`: what strftime_now() tells, local time.
  Interpreter(Names context, std::tm now);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;

  // Errors: kUsage where the template itself refuses its input (raise_exception), kMalformed, kUnsupported;
  // all name the line.
  std::string render(const Body& body);

  // --- what expressions, filters, tests, methods and functions use
  Value evaluate(const Expression& expression);
  Value evaluate_in(const Expression& expression, const std::shared_ptr<Scope>& scope);
  Value call(const Value& callee, Arguments arguments);
  Value attribute_of(const Value& subject, const std::string& name);  // subject.name
  Value item_of(const Value& subject, const Value& key);              // subject[key]
  // Body rendered to text in a scope of its own.
  std::string captured(const Body& body, std::shared_ptr<Scope> scope);
  const std::shared_ptr<Scope>& scope() const { return scope_; }
  const std::tm& now() const { return now_; }

  void charge_steps(std::int64_t steps);
  void charge_bytes(std::int64_t bytes);
  Value made(std::string text);  // charged
  // Objects that may come to hold themselves: released at the end.
  void adopt(ObjectPtr object) { adopted_.push_back(std::move(object)); }

 private:
  // Another scope until the end of a C++ block.
  class ScopeChange {
   public:
    ScopeChange(Interpreter& interpreter, std::shared_ptr<Scope> scope)
        : interpreter_(interpreter), before_(std::exchange(interpreter.scope_, std::move(scope))) {}
    ScopeChange(const ScopeChange&) = delete;
    ~ScopeChange() { interpreter_.scope_ = std::move(before_); }

   private:
    Interpreter& interpreter_;
    std::shared_ptr<Scope> before_;
  };

  void write(std::string_view text);
  Flow run(const Body& body);
  Flow run(const Statement& statement);
  Flow run_if(const Statement& statement);
  Flow run_for(const Statement& statement);
  void run_set_block(const Statement& statement);
  void run_macro(const Statement& statement);
  void run_call(const Statement& statement);
  Flow run_with(const Statement& statement);
  void assign(const Expression& target, Value value);

  Value evaluate_name(const std::string& name);
  Value evaluate_call(const Expression& expression, const Value* caller = nullptr);
  Value evaluate_filter(const Expression& expression, const Value* block = nullptr);
  Value evaluate_compare(const Expression& expression);
  Value evaluate_sequence(const Expression& expression);
  Value evaluate_dict(const Expression& expression);
  Value evaluate_item(const Expression& expression);
  Value evaluate_concat(const Expression& expression);
  Value evaluate_condition(const Expression& expression);
  Arguments arguments_of(const Expression& expression);

  std::shared_ptr<Scope> scope_;
  std::tm now_;
  std::string* output_ = nullptr;
  int line_ = 1;
  int depth_ = 0;
  std::int64_t steps_ = 0, made_bytes_ = 0;
  std::vector<ObjectPtr> adopted_;
};

}  // namespace qtool::jinja
