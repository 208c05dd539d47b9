#include "core/text/jinja/parser.h"

#include "core/error.h"
#include "core/text/jinja/expression_parser.h"

namespace qtool::jinja {
namespace {

using Names = std::initializer_list<std::string_view>;

class Parser : ExpressionParser {
 public:
  explicit Parser(std::string_view source) : ExpressionParser(tokenize(source)) {}

  Body template_body() { return body({}); }

 private:
  // Statements up to one of the tags `ends`, whose name is then the current token; without `ends` to the end.
  Body body(Names ends) {
    const Level level(*this);
    Body statements;
    for (;;) {
      const int line = current().line;
      if (at(TokenKind::kEnd)) {
        if (ends.size() > 0) fail_here("the template ends before {% " + std::string(*ends.begin()) + " %}");
        return statements;
      }
      const TokenKind kind = take().kind;
      if (kind == TokenKind::kData) {
        statements.push_back(statement(StatementKind::kData, line));
        statements.back().text = previous_text_;
      } else if (kind == TokenKind::kVariableBegin) {
        statements.push_back(statement(StatementKind::kPrint, line));
        statements.back().value = tuple();
        if (!at(TokenKind::kVariableEnd)) unexpected("'}}'");
        take();
      } else {
        for (const std::string_view end : ends)
          if (at_name(end)) return statements;
        tag(statements);
        end_tag();
      }
    }
  }

  Token take() {
    Token token = ExpressionParser::take();
    previous_text_ = token.text;
    return token;
  }

  static Statement statement(StatementKind kind, int line) {
    Statement made{};
    made.kind = kind;
    made.line = line;
    return made;
  }

  void end_tag() {
    if (!at(TokenKind::kBlockEnd)) unexpected("'%}'");
    take();
  }

  // The body of a tag that begins here and its end tag's name.
  Body body_until(std::string_view end) {
    end_tag();
    Body inner = body({end});
    take();
    return inner;
  }

  void tag(Body& statements) {
    if (!at(TokenKind::kName)) unexpected("the name of a tag");
    const int line = current().line;
    const std::string name = take().text;
    if (name == "if") return statements.push_back(if_tag(line));
    if (name == "for") return statements.push_back(for_tag(line));
    if (name == "set") return statements.push_back(set_tag(line));
    if (name == "macro") return statements.push_back(macro_tag(line));
    if (name == "call") return statements.push_back(call_tag(line));
    if (name == "filter") return statements.push_back(filter_tag(line));
    if (name == "with") return statements.push_back(with_tag(line));
    if (name == "print") return print_tag(statements, line);
    if (name == "generation") {  // marks what the assistant said; rendering does not care
      statements.push_back(statement(StatementKind::kScope, line));
      statements.back().body = outside_loops([this] { return body_until("endgeneration"); });
      return;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) fail_at(line, "{% " + name + " %} stands outside of a loop");
      statements.push_back(
          statement(name == "break" ? StatementKind::kBreak : StatementKind::kContinue, line));
      return;
    }
    const std::string where = "line " + std::to_string(line) + ": ";
    for (const std::string_view known : {"include", "import", "from", "extends", "block", "autoescape"})
      if (name == known) unsupported(where + "the tag {% " + name + " %} is not supported in chat templates");
    for (const std::string_view end : {"else", "elif", "endif", "endfor", "endset", "endmacro", "endcall",
                                       "endfilter", "endwith", "endgeneration", "endraw"})
      if (name == end) fail_at(line, "{% " + name + " %} stands where nothing is open that it could end");
    unsupported(where + "the tag {% " + escaped(name) + " %} is not known");
  }

  [[noreturn]] static void fail_at(int line, const std::string& sentence) {
    fail("line " + std::to_string(line) + ": " + sentence);
  }

  Statement if_tag(int line) {
    Statement made = statement(StatementKind::kIf, line);
    for (bool more = true; more;) {
      ExpressionPtr test = tuple(false);
      end_tag();
      made.branches.push_back({std::move(test), body({"elif", "else", "endif"})});
      more = at_name("elif");
      if (more) take();
    }
    if (take_name("else")) {
      end_tag();
      made.branches.push_back({nullptr, body({"endif"})});
    }
    take();
    return made;
  }

  Statement for_tag(int line) {
    Statement made = statement(StatementKind::kFor, line);
    made.target = target(false, "in");
    if (made.target->kind == ExpressionKind::kName && made.target->name == "loop")
      fail_at(line, "a loop cannot assign to 'loop'");
    if (!take_name("in")) unexpected("'in'");
    made.value = tuple(false, false, "recursive");
    if (take_name("if")) made.test = expression();
    if (at_name("recursive"))
      unsupported("line " + std::to_string(line) +
                  ": recursive loops ({% for ... recursive %}) are not supported");
    end_tag();
    ++loops_;
    made.body = body({"else", "endfor"});
    --loops_;
    if (take_name("else")) {
      end_tag();
      made.otherwise = body({"endfor"});
    }
    take();
    return made;
  }

  Statement set_tag(int line) {
    Statement made = statement(StatementKind::kSet, line);
    made.target = target(true);
    if (take_operator("=")) {
      made.value = tuple();
      return made;
    }
    made.kind = StatementKind::kSetBlock;
    if (at_operator("|")) made.value = filters(nullptr, false);
    made.body = body_until("endset");
    return made;
  }

  // Reads the rest with `read`, noting which of a macro's special names it mentions.
  template <typename Read>
  void definition(MacroDefinition& macro, const Read& read) {
    const bool rest = read_rest_, keywords = read_keywords_, caller = read_caller_;
    read_rest_ = read_keywords_ = read_caller_ = false;
    macro.body = outside_loops(read);
    macro.takes_rest = read_rest_;
    macro.takes_keywords = read_keywords_;
    macro.takes_caller = read_caller_;
    read_rest_ |= rest;
    read_keywords_ |= keywords;
    read_caller_ |= caller;
  }

  // A macro's body is a function of its own: a `break` in it cannot end a loop around it.
  template <typename Read>
  Body outside_loops(const Read& read) {
    const int loops = std::exchange(loops_, 0);
    Body inner = read();
    loops_ = loops;
    return inner;
  }

  std::vector<Parameter> parameters() {
    std::vector<Parameter> list;
    expect_operator("(");
    while (!at_operator(")")) {
      if (!list.empty()) expect_operator(",");
      Parameter parameter{expect_name(), nullptr};
      for (const Parameter& known : list)
        if (known.name == parameter.name) fail_here("the parameter '" + parameter.name + "' comes twice");
      if (take_operator("="))
        parameter.fallback = expression();
      else if (!list.empty() && list.back().fallback)
        fail_here("the parameter '" + parameter.name +
                  "' without a default stands behind one with a default");
      list.push_back(std::move(parameter));
    }
    expect_operator(")");
    return list;
  }

  Statement macro_tag(int line) {
    Statement made = statement(StatementKind::kMacro, line);
    auto macro = std::make_shared<MacroDefinition>();
    macro->name = expect_name();
    macro->parameters = parameters();
    definition(*macro, [this] { return body_until("endmacro"); });
    made.macro = std::move(macro);
    return made;
  }

  Statement call_tag(int line) {
    Statement made = statement(StatementKind::kCall, line);
    auto macro = std::make_shared<MacroDefinition>();
    macro->name = "caller";
    if (at_operator("(")) macro->parameters = parameters();
    made.value = expression();
    if (made.value->kind != ExpressionKind::kCall) fail_at(line, "{% call %} must be followed by a call");
    definition(*macro, [this] { return body_until("endcall"); });
    made.macro = std::move(macro);
    return made;
  }

  Statement filter_tag(int line) {
    Statement made = statement(StatementKind::kFilter, line);
    made.value = filters(nullptr, true);
    made.body = body_until("endfilter");
    return made;
  }

  Statement with_tag(int line) {
    Statement made = statement(StatementKind::kWith, line);
    while (!at(TokenKind::kBlockEnd)) {
      if (!made.assignments.empty()) expect_operator(",");
      ExpressionPtr name = target(false);
      expect_operator("=");
      made.assignments.emplace_back(std::move(name), expression());
    }
    made.body = body_until("endwith");
    return made;
  }

  void print_tag(Body& statements, int line) {
    for (bool first = true; !at(TokenKind::kBlockEnd); first = false) {
      if (!first) expect_operator(",");
      statements.push_back(statement(StatementKind::kPrint, line));
      statements.back().value = expression();
    }
  }

  std::string previous_text_;
  int loops_ = 0;  // around what is being read, within the same macro
};

}  // namespace

Body parse(std::string_view source) { return Parser(source).template_body(); }

}  // namespace qtool::jinja
