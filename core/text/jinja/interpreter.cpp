// Statements; expressions are in evaluate.cpp.
#include "core/text/jinja/interpreter.h"

#include <algorithm>

#include "core/error.h"
#include "core/interrupt.h"
#include "core/text/jinja/builtins.h"
#include "core/text/jinja/depth.h"
#include "core/text/jinja/loop.h"
#include "core/text/jinja/macro.h"

namespace qtool::jinja {

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope; scope = scope->outer_.get())
    for (const auto& [known, value] : scope->names_)
      if (known == name) return &value;
  return nullptr;
}

void Scope::set(const std::string& name, Value value) {
  for (auto& [known, held] : names_)
    if (known == name) {
      held = std::move(value);
      return;
    }
  names_.emplace_back(name, std::move(value));
}

Interpreter::Interpreter(Names context, std::tm now) : scope_(std::make_shared<Scope>()), now_(now) {
  for (auto& given : context) scope_->set(given.first, std::move(given.second));
  scope_ = std::make_shared<Scope>(scope_);  // the template's own names, over what it is given
}

Interpreter::~Interpreter() {
  for (const ObjectPtr& object : adopted_) object->release();
}

std::string Interpreter::render(const Body& body) {
  std::string out;
  output_ = &out;
  try {
    run(body);
  } catch (const Error& error) {
    if (error.code() == ExitCode::kInterrupted || error.code() == ExitCode::kUsage) throw;
    throw error.within("line " + std::to_string(line_));
  }
  return out;
}

void Interpreter::charge_steps(std::int64_t steps) {
  steps_ += steps;
  if (steps_ > kMaxTemplateSteps)
    fail("the template runs too long (over " + std::to_string(kMaxTemplateSteps) + " steps)");
}

void Interpreter::charge_bytes(std::int64_t bytes) {
  made_bytes_ += bytes;
  if (made_bytes_ > kMaxMadeBytes) fail("the template makes more than 128 MiB of strings and lists");
}

Value Interpreter::made(std::string text) {
  charge_bytes(static_cast<std::int64_t>(text.size()));
  return text;
}

void Interpreter::write(std::string_view text) {
  if (static_cast<std::int64_t>(output_->size() + text.size()) > kMaxOutputBytes)
    fail("the template writes more than 64 MiB");
  *output_ += text;
}

std::string Interpreter::captured(const Body& body, std::shared_ptr<Scope> scope) {
  std::string text;
  std::string* const outer = std::exchange(output_, &text);
  const ScopeChange change(*this, std::move(scope));
  try {
    run(body);
  } catch (...) {
    output_ = outer;
    throw;
  }
  output_ = outer;
  charge_bytes(static_cast<std::int64_t>(text.size()));
  return text;
}

Flow Interpreter::run(const Body& body) {
  const DepthGuard guard(depth_);
  for (const Statement& statement : body)
    if (const Flow flow = run(statement); flow != Flow::kOn) return flow;
  return Flow::kOn;
}

Flow Interpreter::run(const Statement& statement) {
  charge_steps(1);
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::kData:
      write(statement.text);
      return Flow::kOn;
    case StatementKind::kPrint: {
      const Value value = evaluate(*statement.value);
      line_ = statement.line;
      write(value.text() ? *value.text() : to_text(value));
      return Flow::kOn;
    }
    case StatementKind::kIf:
      return run_if(statement);
    case StatementKind::kFor:
      return run_for(statement);
    case StatementKind::kSet:
      assign(*statement.target, evaluate(*statement.value));
      return Flow::kOn;
    case StatementKind::kSetBlock:
      run_set_block(statement);
      return Flow::kOn;
    case StatementKind::kMacro:
      run_macro(statement);
      return Flow::kOn;
    case StatementKind::kCall:
      run_call(statement);
      return Flow::kOn;
    case StatementKind::kFilter: {
      const Value block = captured(statement.body, std::make_shared<Scope>(scope_));
      line_ = statement.line;
      write(to_text(evaluate_filter(*statement.value, &block)));
      return Flow::kOn;
    }
    case StatementKind::kScope:
      write(captured(statement.body, std::make_shared<Scope>(scope_)));
      return Flow::kOn;
    case StatementKind::kWith:
      return run_with(statement);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  throw internal_error("a statement of no kind");
}

Flow Interpreter::run_if(const Statement& statement) {
  for (const Branch& branch : statement.branches)
    if (!branch.test || truth_of(evaluate(*branch.test))) return run(branch.body);
  return Flow::kOn;
}

Flow Interpreter::run_for(const Statement& statement) {
  std::vector<Value> items = items_of(evaluate(*statement.value));
  charge_bytes(static_cast<std::int64_t>(items.size()) * kValueBytes);
  const std::shared_ptr<Scope> outside = scope_;

  // The loop's own condition sees the loop's target, but not `loop`.
  std::function<bool(const Value&)> passes;
  if (statement.test)
    passes = [this, &statement, outside](const Value& item) {
      charge_steps(1);
      const ScopeChange change(*this, std::make_shared<Scope>(outside));
      assign(*statement.target, item);
      return truth_of(evaluate(*statement.test));
    };

  const auto loop = std::make_shared<Loop>(std::move(items), std::move(passes));
  struct Leave {
    Loop& loop;
    ~Leave() { loop.leave(); }
  } const leave{*loop};
  bool any = false;
  while (const std::optional<Value> item = loop->next()) {
    any = true;
    stop_if_interrupted();
    charge_steps(1);
    const ScopeChange change(*this, std::make_shared<Scope>(outside));
    scope_->set("loop", ObjectPtr(loop));
    assign(*statement.target, *item);
    if (run(statement.body) == Flow::kBreak) break;
  }
  if (any) return Flow::kOn;
  const ScopeChange change(*this, std::make_shared<Scope>(outside));
  return run(statement.otherwise);
}

void Interpreter::run_set_block(const Statement& statement) {
  Value text = captured(statement.body, std::make_shared<Scope>(scope_));
  line_ = statement.line;
  if (statement.value) text = evaluate_filter(*statement.value, &text);
  assign(*statement.target, std::move(text));
}

void Interpreter::run_macro(const Statement& statement) {
  auto macro = std::make_shared<Macro>(statement.macro, scope_);
  adopt(macro);  // its scope holds it
  scope_->set(statement.macro->name, ObjectPtr(std::move(macro)));
}

void Interpreter::run_call(const Statement& statement) {
  auto caller = std::make_shared<Macro>(statement.macro, scope_);
  adopt(caller);
  const Value given = ObjectPtr(std::move(caller));
  write(to_text(evaluate_call(*statement.value, &given)));
}

Flow Interpreter::run_with(const Statement& statement) {
  auto inner = std::make_shared<Scope>(scope_);
  std::vector<Value> values;
  for (const auto& [unused, value] : statement.assignments) values.push_back(evaluate(*value));
  const ScopeChange change(*this, std::move(inner));
  for (std::size_t i = 0; i < values.size(); ++i)
    assign(*statement.assignments[i].first, std::move(values[i]));
  return run(statement.body);
}

void Interpreter::assign(const Expression& target, Value value) {
  if (target.kind == ExpressionKind::kName) return scope_->set(target.name, std::move(value));
  if (target.kind == ExpressionKind::kAttribute) {
    const std::string& name = target.children.front()->name;
    const Value* held = scope_->find(name);
    auto* space = held ? dynamic_cast<Namespace*>(held->object()) : nullptr;
    if (!space) fail("'" + name + "." + target.name + "' cannot be set: '" + name + "' is no namespace()");
    return space->set(target.name, std::move(value));
  }
  std::vector<Value> parts = items_of(value);
  if (parts.size() != target.children.size())
    fail("cannot assign " + std::to_string(parts.size()) + " values to " +
         std::to_string(target.children.size()) + " names");
  for (std::size_t i = 0; i < parts.size(); ++i) assign(*target.children[i], std::move(parts[i]));
}

}  // namespace qtool::jinja
