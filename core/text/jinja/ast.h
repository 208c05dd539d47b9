// A parsed template: expressions and statements as plain data, which the interpreter walks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/limits.h"
#include "core/text/jinja/value.h"

namespace qtool::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind : std::uint8_t {
  kConstant,   // constant
  kName,       // name
  kTuple,      // children
  kList,       // children
  kDict,       // children: key, value, key, value, ...
  kAttribute,  // child.name
  kItem,       // child[child]
  kSlice,      // begin, end, step, each may be null; only as the second child of kItem
  kCall,       // child(arguments)
  kFilter,     // child|name(arguments); without child where a block is filtered
  kTest,       // child is name(arguments)
  kNot,
  kMinus,
  kPlus,
  kBinary,   // child operator child; name is the operator
  kConcat,   // child ~ child ~ ...
  kCompare,  // child operators[0] child operators[1] child ...
  kAnd,
  kOr,
  kCondition,  // test, value, other value or null
};

enum class ArgumentKind : std::uint8_t { kPositional, kKeyword, kList, kDict };  // x, name=x, *x, **x

struct Argument {
  ArgumentKind kind;
  std::string name;
  ExpressionPtr value;
};

struct Expression {
  ExpressionKind kind;
  int line;
  int depth = 1;
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> children;
  std::vector<Argument> arguments;
  std::vector<std::string> operators;
};

struct Statement;
using Body = std::vector<Statement>;

enum class StatementKind : std::uint8_t {
  kData,      // text
  kPrint,     // value
  kIf,        // branches, each with its test; the one of `else` has none
  kFor,       // target, value (what is walked through), test, body, otherwise
  kSet,       // target, value
  kSetBlock,  // target, value (filters, or null), body
  kMacro,     // name, macro
  kCall,      // value (the call), macro (what caller() renders)
  kFilter,    // value (filters), body
  kScope,     // body: names set inside stay inside
  kWith,      // targets and values, body
  kBreak,
  kContinue,
};

struct Branch {
  ExpressionPtr test;
  Body body;
};

struct Parameter {
  std::string name;
  ExpressionPtr fallback;  // null: none
};

struct MacroDefinition {
  std::string name;
  std::vector<Parameter> parameters;
  Body body;
  bool takes_rest = false, takes_keywords = false, takes_caller = false;  // mentions varargs, kwargs, caller
};

struct Statement {
  StatementKind kind;
  int line;
  std::string text;
  ExpressionPtr target;  // kName, kAttribute of a kName (a namespace's) or a kTuple of those
  ExpressionPtr value;
  ExpressionPtr test;
  Body body, otherwise;
  std::vector<Branch> branches;
  std::shared_ptr<const MacroDefinition> macro;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments;
};

}  // namespace qtool::jinja
