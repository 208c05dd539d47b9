// The part of the parser that reads expressions; the rest builds on it.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/jinja/ast.h"
#include "core/text/jinja/lexer.h"

namespace qtool::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  // Counts how deep the parser stands in its own calls. Errors: kMalformed beyond kMaxTreeDepth.
  class Level {
   public:
    explicit Level(ExpressionParser& parser);
    Level(const Level&) = delete;
    ~Level() { --parser_.level_; }

   private:
    ExpressionParser& parser_;
  };

  const Token& current() const { return tokens_[at_]; }
  const Token& following() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  Token take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  bool at(TokenKind kind) const { return current().kind == kind; }
  bool at_name(std::string_view name) const { return at(TokenKind::kName) && current().text == name; }
  bool at_operator(std::string_view op) const { return at(TokenKind::kOperator) && current().text == op; }
  bool take_name(std::string_view name);
  bool take_operator(std::string_view op);
  std::string expect_name();
  void expect_operator(std::string_view op);
  [[noreturn]] void fail_here(const std::string& sentence) const;
  [[noreturn]] void unsupported_here(const std::string& sentence) const;
  [[noreturn]] void unexpected(std::string_view expected) const;

  ExpressionPtr node(ExpressionKind kind, int line) const;
  void adopt(Expression& parent, ExpressionPtr child) const;
  void deepen(Expression& parent, const ExpressionPtr& child) const;

  ExpressionPtr expression(bool with_condition = true);
  // One expression, or with commas a tuple. `end`: a name that ends it.
  ExpressionPtr tuple(bool with_condition = true, bool in_parentheses = false, std::string_view end = {});
  // What may be assigned to; `with_namespace`: also a namespace's attribute.
  ExpressionPtr target(bool with_namespace, std::string_view end = {});
  ExpressionPtr filters(ExpressionPtr subject, bool begins_with_name);
  void read_arguments(Expression& call);

  // Which of the names that a macro is given unasked (varargs, kwargs, caller) were read so far.
  bool read_rest_ = false, read_keywords_ = false, read_caller_ = false;

 private:
  using Rule = ExpressionPtr (ExpressionParser::*)();

  ExpressionPtr left_to_right(ExpressionKind kind, Rule operand,
                              std::initializer_list<std::string_view> operators);
  ExpressionPtr condition();
  ExpressionPtr either();
  ExpressionPtr both();
  ExpressionPtr negation();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary_filtered() { return unary(true); }
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr primary();
  ExpressionPtr string_constant();
  ExpressionPtr number_constant();
  ExpressionPtr list();
  ExpressionPtr dict();
  ExpressionPtr postfix(ExpressionPtr subject);
  ExpressionPtr filtered(ExpressionPtr subject);
  ExpressionPtr call(ExpressionPtr subject);
  ExpressionPtr subscript(ExpressionPtr subject);
  ExpressionPtr subscribed();
  ExpressionPtr test(ExpressionPtr subject);
  ExpressionPtr single_target(bool with_namespace);
  bool tuple_ends(std::string_view end) const;

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int level_ = 0;
};

}  // namespace qtool::jinja
