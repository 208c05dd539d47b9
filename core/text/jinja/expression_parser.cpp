#include "core/text/jinja/expression_parser.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "core/error.h"

namespace qtool::jinja {

ExpressionParser::Level::Level(ExpressionParser& parser) : parser_(parser) {
  if (++parser_.level_ > kMaxTreeDepth) {
    --parser_.level_;
    parser_.fail_here("nested deeper than " + std::to_string(kMaxTreeDepth) + " levels");
  }
}

void ExpressionParser::fail_here(const std::string& sentence) const {
  fail("line " + std::to_string(current().line) + ": " + sentence);
}

void ExpressionParser::unsupported_here(const std::string& sentence) const {
  unsupported("line " + std::to_string(current().line) + ": " + sentence);
}

void ExpressionParser::unexpected(std::string_view expected) const {
  fail_here("expected " + std::string(expected) + ", found " + described(current()));
}

bool ExpressionParser::take_name(std::string_view name) {
  const bool is = at_name(name);
  if (is) ++at_;
  return is;
}

bool ExpressionParser::take_operator(std::string_view op) {
  const bool is = at_operator(op);
  if (is) ++at_;
  return is;
}

std::string ExpressionParser::expect_name() {
  if (!at(TokenKind::kName)) unexpected("a name");
  return take().text;
}

void ExpressionParser::expect_operator(std::string_view op) {
  if (!take_operator(op)) unexpected("'" + std::string(op) + "'");
}

ExpressionPtr ExpressionParser::node(ExpressionKind kind, int line) const {
  auto made = std::make_unique<Expression>();
  made->kind = kind;
  made->line = line;
  return made;
}

void ExpressionParser::deepen(Expression& parent, const ExpressionPtr& child) const {
  if (child) parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > kMaxTreeDepth)
    fail_here("an expression of more than " + std::to_string(kMaxTreeDepth) +
              " nested or chained operations");
}

void ExpressionParser::adopt(Expression& parent, ExpressionPtr child) const {
  deepen(parent, child);
  parent.children.push_back(std::move(child));
}

ExpressionPtr ExpressionParser::expression(bool with_condition) {
  const Level level(*this);
  return with_condition ? condition() : either();
}

ExpressionPtr ExpressionParser::condition() {
  ExpressionPtr value = either();
  while (at_name("if")) {
    ExpressionPtr made = node(ExpressionKind::kCondition, take().line);
    adopt(*made, either());
    adopt(*made, std::move(value));
    adopt(*made, take_name("else") ? expression() : nullptr);
    value = std::move(made);
  }
  return value;
}

// operand (operator operand)*, grouped from the left.
ExpressionPtr ExpressionParser::left_to_right(ExpressionKind kind, Rule operand,
                                              std::initializer_list<std::string_view> operators) {
  ExpressionPtr left = (this->*operand)();
  const auto is_operator = [this, operators] {
    return std::any_of(operators.begin(), operators.end(),
                       [this](std::string_view op) { return at_name(op) || at_operator(op); });
  };
  while (is_operator()) {
    const Token op = take();
    ExpressionPtr made = node(kind, op.line);
    made->name = op.text;
    adopt(*made, std::move(left));
    adopt(*made, (this->*operand)());
    left = std::move(made);
  }
  return left;
}

ExpressionPtr ExpressionParser::either() {
  return left_to_right(ExpressionKind::kOr, &ExpressionParser::both, {"or"});
}
ExpressionPtr ExpressionParser::both() {
  return left_to_right(ExpressionKind::kAnd, &ExpressionParser::negation, {"and"});
}

ExpressionPtr ExpressionParser::negation() {
  if (!at_name("not")) return comparison();
  const Level level(*this);
  ExpressionPtr made = node(ExpressionKind::kNot, take().line);
  adopt(*made, negation());
  return made;
}

ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr left = sum();
  ExpressionPtr chain;
  for (;;) {
    std::string op;
    for (const std::string_view known : {"==", "!=", "<", "<=", ">", ">="})
      if (at_operator(known)) op = known;
    if (at_name("in")) op = "in";
    if (at_name("not") && following().kind == TokenKind::kName && following().text == "in") op = "not in";
    if (op.empty()) return chain ? std::move(chain) : std::move(left);
    if (!chain) {
      chain = node(ExpressionKind::kCompare, current().line);
      adopt(*chain, std::move(left));
    }
    take();
    if (op == "not in") take();
    chain->operators.push_back(op);
    adopt(*chain, sum());
  }
}

ExpressionPtr ExpressionParser::sum() {
  return left_to_right(ExpressionKind::kBinary, &ExpressionParser::concatenation, {"+", "-"});
}

ExpressionPtr ExpressionParser::concatenation() {
  ExpressionPtr first = product();
  if (!at_operator("~")) return first;
  ExpressionPtr made = node(ExpressionKind::kConcat, current().line);
  adopt(*made, std::move(first));
  while (take_operator("~")) adopt(*made, product());
  return made;
}

ExpressionPtr ExpressionParser::product() {
  return left_to_right(ExpressionKind::kBinary, &ExpressionParser::power, {"*", "/", "//", "%"});
}
ExpressionPtr ExpressionParser::power() {
  return left_to_right(ExpressionKind::kBinary, &ExpressionParser::unary_filtered, {"**"});
}

// Filters bind looser than a sign and tighter than any other operator: -1|abs is 1.
ExpressionPtr ExpressionParser::unary(bool with_filters) {
  const Level level(*this);
  ExpressionPtr made;
  if (at_operator("-") || at_operator("+")) {
    made = node(at_operator("-") ? ExpressionKind::kMinus : ExpressionKind::kPlus, current().line);
    take();
    adopt(*made, unary(false));
  } else {
    made = primary();
  }
  made = postfix(std::move(made));
  return with_filters ? filtered(std::move(made)) : std::move(made);
}

ExpressionPtr ExpressionParser::primary() {
  if (at(TokenKind::kString)) return string_constant();
  if (at(TokenKind::kInteger) || at(TokenKind::kFloat)) return number_constant();
  if (take_operator("(")) {
    ExpressionPtr inner = tuple(true, true);
    expect_operator(")");
    return inner;
  }
  if (at_operator("[")) return list();
  if (at_operator("{")) return dict();
  if (!at(TokenKind::kName)) unexpected("an expression");
  const Token token = take();
  ExpressionPtr made = node(ExpressionKind::kConstant, token.line);
  if (token.text == "true" || token.text == "True") {
    made->constant = true;
  } else if (token.text == "false" || token.text == "False") {
    made->constant = false;
  } else if (token.text != "none" && token.text != "None") {
    made->kind = ExpressionKind::kName;
    made->name = token.text;
    read_rest_ |= token.text == "varargs";
    read_keywords_ |= token.text == "kwargs";
    read_caller_ |= token.text == "caller";
  }
  return made;
}

ExpressionPtr ExpressionParser::string_constant() {
  ExpressionPtr made = node(ExpressionKind::kConstant, current().line);
  std::string text;
  while (at(TokenKind::kString)) text += take().text;
  made->constant = std::move(text);
  return made;
}

ExpressionPtr ExpressionParser::number_constant() {
  const Token token = take();
  ExpressionPtr made = node(ExpressionKind::kConstant, token.line);
  if (token.kind == TokenKind::kFloat) {
    double number = 0;
    const auto [end, failure] =
        std::from_chars(token.text.data(), token.text.data() + token.text.size(), number);
    if (failure == std::errc::result_out_of_range)
      number = std::strtod(token.text.c_str(), nullptr);  // inf or 0
    made->constant = number;
    return made;
  }
  std::string_view digits = token.text;
  const char letter = digits.size() > 1 ? static_cast<char>(digits[1] | 0x20) : '\0';
  const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
  if (base != 10) digits.remove_prefix(2);
  std::int64_t number = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
  if (failure != std::errc())
    unsupported_here("the number " + token.text.substr(0, 60) + " does not fit 64 bits");
  made->constant = number;
  return made;
}

bool ExpressionParser::tuple_ends(std::string_view end) const {
  return at(TokenKind::kVariableEnd) || at(TokenKind::kBlockEnd) || at_operator(")") ||
         (!end.empty() && at_name(end));
}

ExpressionPtr ExpressionParser::tuple(bool with_condition, bool in_parentheses, std::string_view end) {
  ExpressionPtr made = node(ExpressionKind::kTuple, current().line);
  bool is_tuple = false;
  while (!tuple_ends(end)) {
    adopt(*made, expression(with_condition));
    if (!take_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return made;
  if (!made->children.empty()) return std::move(made->children.front());
  if (!in_parentheses) unexpected("an expression");
  return made;
}

ExpressionPtr ExpressionParser::single_target(bool with_namespace) {
  const Level level(*this);
  if (take_operator("(")) {
    ExpressionPtr inner = target(with_namespace);
    expect_operator(")");
    return inner;
  }
  ExpressionPtr made = node(ExpressionKind::kName, current().line);
  const std::string name = expect_name();
  for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"})
    if (name == constant) fail_here("'" + name + "' cannot be assigned to");
  made->name = name;
  if (!with_namespace || !take_operator(".")) return made;
  ExpressionPtr attribute = node(ExpressionKind::kAttribute, made->line);
  adopt(*attribute, std::move(made));
  attribute->name = expect_name();
  return attribute;
}

ExpressionPtr ExpressionParser::target(bool with_namespace, std::string_view end) {
  ExpressionPtr made = node(ExpressionKind::kTuple, current().line);
  adopt(*made, single_target(with_namespace));
  if (!at_operator(",")) return std::move(made->children.front());
  while (take_operator(",") && !tuple_ends(end) && !at_operator("="))
    adopt(*made, single_target(with_namespace));
  return made;
}

ExpressionPtr ExpressionParser::list() {
  ExpressionPtr made = node(ExpressionKind::kList, take().line);
  while (!at_operator("]")) {
    adopt(*made, expression());
    if (!take_operator(",")) break;
  }
  expect_operator("]");
  return made;
}

ExpressionPtr ExpressionParser::dict() {
  ExpressionPtr made = node(ExpressionKind::kDict, take().line);
  while (!at_operator("}")) {
    adopt(*made, expression());
    expect_operator(":");
    adopt(*made, expression());
    if (!take_operator(",")) break;
  }
  expect_operator("}");
  return made;
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr subject) {
  for (;;) {
    if (at_operator(".") || at_operator("["))
      subject = subscript(std::move(subject));
    else if (at_operator("("))
      subject = call(std::move(subject));
    else
      return subject;
  }
}

ExpressionPtr ExpressionParser::filtered(ExpressionPtr subject) {
  for (;;) {
    if (at_operator("|"))
      subject = filters(std::move(subject), false);
    else if (at_name("is"))
      subject = test(std::move(subject));
    else if (at_operator("("))
      subject = call(std::move(subject));
    else
      return subject;
  }
}

ExpressionPtr ExpressionParser::call(ExpressionPtr subject) {
  ExpressionPtr made = node(ExpressionKind::kCall, current().line);
  adopt(*made, std::move(subject));
  read_arguments(*made);
  return made;
}

void ExpressionParser::read_arguments(Expression& call) {
  std::vector<Argument>& list = call.arguments;
  expect_operator("(");
  while (!at_operator(")")) {
    Argument argument{ArgumentKind::kPositional, {}, nullptr};
    if (take_operator("*")) {
      argument.kind = ArgumentKind::kList;
    } else if (take_operator("**")) {
      argument.kind = ArgumentKind::kDict;
    } else if (at(TokenKind::kName) && following().kind == TokenKind::kOperator && following().text == "=") {
      argument.kind = ArgumentKind::kKeyword;
      argument.name = take().text;
      take();
    } else if (!list.empty() && list.back().kind != ArgumentKind::kPositional) {
      fail_here("an argument without a name stands behind one with a name");
    }
    argument.value = expression();
    deepen(call, argument.value);
    list.push_back(std::move(argument));
    if (!take_operator(",")) break;
  }
  expect_operator(")");
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr subject) {
  const int line = current().line;
  if (take_operator(".")) {
    ExpressionPtr made = node(ExpressionKind::kAttribute, line);
    adopt(*made, std::move(subject));
    if (at(TokenKind::kInteger)) {
      made->kind = ExpressionKind::kItem;
      adopt(*made, number_constant());
    } else {
      made->name = expect_name();
    }
    return made;
  }
  expect_operator("[");
  ExpressionPtr made = node(ExpressionKind::kItem, line);
  adopt(*made, std::move(subject));
  adopt(*made, subscribed());
  if (at_operator(",")) {
    ExpressionPtr key = node(ExpressionKind::kTuple, line);
    adopt(*key, std::move(made->children.back()));
    made->children.pop_back();
    while (take_operator(",")) adopt(*key, subscribed());
    for (const ExpressionPtr& part : key->children)
      if (part->kind == ExpressionKind::kSlice) unsupported_here("slices with commas are not supported");
    adopt(*made, std::move(key));
  }
  expect_operator("]");
  return made;
}

// What stands in brackets behind a value: an expression, or begin:end:step with any of them left out.
ExpressionPtr ExpressionParser::subscribed() {
  const int line = current().line;
  ExpressionPtr first = at_operator(":") ? nullptr : expression();
  if (!at_operator(":")) return first;
  ExpressionPtr made = node(ExpressionKind::kSlice, line);
  adopt(*made, std::move(first));
  while (made->children.size() < 3 && take_operator(":")) {
    const bool left_out = at_operator(":") || at_operator("]") || at_operator(",");
    adopt(*made, left_out ? nullptr : expression());
  }
  while (made->children.size() < 3) adopt(*made, nullptr);
  return made;
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr subject, bool begins_with_name) {
  while (begins_with_name || at_operator("|")) {
    ExpressionPtr made = node(ExpressionKind::kFilter, current().line);
    if (!begins_with_name) take();
    begins_with_name = false;
    made->name = expect_name();
    while (take_operator(".")) made->name += "." + expect_name();
    if (subject) adopt(*made, std::move(subject));
    if (at_operator("(")) read_arguments(*made);
    subject = std::move(made);
  }
  return subject;
}

// "is [not] name", with arguments in parentheses or one without: "x is divisibleby 3".
ExpressionPtr ExpressionParser::test(ExpressionPtr subject) {
  ExpressionPtr made = node(ExpressionKind::kTest, take().line);
  const bool negated = take_name("not");
  made->name = expect_name();
  while (take_operator(".")) made->name += "." + expect_name();
  adopt(*made, std::move(subject));
  const bool begins_value = at(TokenKind::kName) || at(TokenKind::kString) || at(TokenKind::kInteger) ||
                            at(TokenKind::kFloat) || at_operator("[") || at_operator("{");
  if (at_operator("(")) {
    read_arguments(*made);
  } else if (begins_value && !at_name("else") && !at_name("or") && !at_name("and")) {
    if (at_name("is")) fail_here("tests cannot be chained with 'is'");
    made->arguments.push_back({ArgumentKind::kPositional, {}, postfix(primary())});
    deepen(*made, made->arguments.back().value);
  }
  if (!negated) return made;
  ExpressionPtr opposite = node(ExpressionKind::kNot, made->line);
  adopt(*opposite, std::move(made));
  return opposite;
}

}  // namespace qtool::jinja
