// What `qtool COMMAND --help` looks like.
#include "cmd/cli.h"
#include "cmd/wrap.h"

namespace qtool {
namespace {

constexpr std::size_t kNames = 32;  // columns of the names of options

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + line;
  return text;
}

// CLI11's own form adds validators and environment names to every option, and wraps nothing.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(kNames); }

  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string value = value_of(*option);
    std::string text = value.empty() ? "" : " " + value;
    if (!option->get_default_str().empty()) text += " [" + option->get_default_str() + "]";
    return text;
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    return joined(wrapped(option->get_description(), text_columns() - kNames));
  }

  // A line of the footer is a paragraph, to be wrapped, unless it begins with a space.
  std::string make_footer(const CLI::App* app) const override {
    const std::string footer = app->get_footer() + (app->get_footer().empty() ? "" : "\n") +
                               "Every option has an environment twin: --log-file is $QTOOL_LOG_FILE.\n";
    std::string text;
    for (std::size_t at = 0, end = 0; (end = footer.find('\n', at)) != std::string::npos; at = end + 1) {
      const std::string line = footer.substr(at, end - at);
      text += (line.starts_with(' ') ? line : joined(wrapped(line, text_columns()))) + "\n";
    }
    return text;
  }

  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
    for (std::size_t at = 0; (at = text.find("\n\n\n", at)) != std::string::npos;) text.erase(at, 1);
    return text;
  }
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> help_formatter() { return std::make_shared<HelpFormatter>(); }

std::string value_of(const CLI::Option& option) {
  if (option.get_type_size() == 0) return "";
  const std::string type = option.get_type_name();  // "INT:INT in [0 - 9]" where values are checked
  return type.substr(0, type.find(':'));
}

void add_help(CLI::App& app, const std::vector<std::string>& paragraphs,
              const std::vector<std::string>& examples) {
  std::string footer = app.get_footer();
  for (const std::string& paragraph : paragraphs) footer += paragraph + "\n";
  if (!examples.empty()) footer += std::string(paragraphs.empty() ? "" : "\n") + "Examples:\n";
  for (const std::string& example : examples) footer += "  " + example + "\n";
  app.footer(footer);
}

}  // namespace qtool
