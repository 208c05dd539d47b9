// Objects that templates make: macros and namespaces.
#pragma once

#include <memory>
#include <string>

#include "core/text/jinja/interpreter.h"

namespace qtool::jinja {

// A function of the template. Sees the names of the scope it was defined in, as they are when it is called.
class Macro final : public Object {
 public:
  Macro(std::shared_ptr<const MacroDefinition> definition, std::shared_ptr<Scope> scope)
      : definition_(std::move(definition)), scope_(std::move(scope)) {}
  std::string_view type_name() const override { return "Macro"; }
  bool is_callable() const override { return true; }
  std::optional<Value> attribute(Interpreter& interpreter, const std::string& name) override;
  Value call(Interpreter& interpreter, Arguments arguments) override;
  void release() override { scope_.reset(); }

 private:
  std::shared_ptr<const MacroDefinition> definition_;
  std::shared_ptr<Scope> scope_;
};

// The one thing that a template can change after making it, so that a loop can leave something behind.
class Namespace final : public Object {
 public:
  std::string_view type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(Interpreter& interpreter, const std::string& name) override;
  void set(const std::string& name, Value value);  // errors: a name with "_" in front
  void release() override { attributes_.clear(); }

 private:
  Names attributes_;
};

}  // namespace qtool::jinja
