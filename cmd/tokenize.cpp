// qtool tokenize: text to token ids and back. Reads only the tokenizer's files.
#include <charconv>
#include <iostream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cmd/cli.h"
#include "formats/tokenizers.h"

namespace qtool {
namespace {

struct TokenizeOptions {
  std::string text;
  bool no_special = false;
  bool decode = false;
  bool count = false;
  bool jsonl = false;
};

constexpr std::string_view kSchema = "qtool.tokenize/1";

// "1 398,605": what this command prints, or a list as one would type it.
std::vector<TokenId> parse_ids(std::string_view text) {
  std::vector<TokenId> ids;
  constexpr std::string_view kBetween = " ,\t\r\n[]";
  for (std::size_t begin = text.find_first_not_of(kBetween); begin != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(kBetween, begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    TokenId id = 0;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || stop != word.data() + word.size())
      throw Error(ExitCode::kUsage,
                  "'" + escaped(word.substr(0, 80)) + "' is no token id; --decode takes numbers");
    ids.push_back(id);
    begin = text.find_first_not_of(kBetween, end);
  }
  return ids;
}

std::vector<TokenId> ids_of(const Json& list, const std::string& where) {
  std::vector<TokenId> ids;
  if (!list.is_array()) throw Error(ExitCode::kUsage, where + ": 'ids' must be a list of integers");
  for (const Json& id : list) {
    if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<TokenId>::max())
      throw Error(ExitCode::kUsage, where + ": 'ids' must be a list of integers from 0 to 2^31-1");
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

// One line in, one line out.
Json answer(const Tokenizer& tokenizer, const std::string& line, const std::string& where, bool no_special) {
  const Json question = parse_json(line, where);
  if (question.is_object() && question.contains("text") && question["text"].is_string()) {
    const bool special = optional_bool(question, "add_special_tokens", !no_special, where);
    return {{"ids", tokenizer.encode(question["text"].get_ref<const std::string&>(), special)}};
  }
  if (question.is_object() && question.contains("ids")) {
    const bool skip = optional_bool(question, "skip_special_tokens", no_special, where);
    return {{"text", tokenizer.decode(ids_of(question["ids"], where), skip)}};
  }
  throw Error(ExitCode::kUsage, where + R"(: must be {"text": "..."} or {"ids": [...]})");
}

void answer_lines(const Tokenizer& tokenizer, bool no_special) {
  std::string line;
  for (std::int64_t number = 1; std::getline(std::cin, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    print_json(answer(tokenizer, line, "stdin, line " + std::to_string(number), no_special));
  }
}

std::string input_of(const TokenizeOptions& options, bool given) {
  if (given) return options.text;
  if (isatty(STDIN_FILENO) != 0)
    throw Error(ExitCode::kUsage, "no text: give it behind the model, or pipe it in");
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

void print_ids(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool count, bool json) {
  if (json) {
    Json tokens = Json::array();
    for (const TokenId id : ids) tokens.push_back(tokenizer.token_text(id).value_or(""));
    Json document{{"schema", kSchema}, {"count", ids.size()}};
    if (!count) document.update({{"ids", ids}, {"tokens", std::move(tokens)}});
    print_json(document);
    return;
  }
  if (count) return print_out(std::to_string(ids.size()) + "\n");
  std::string line;
  for (const TokenId id : ids) line += (line.empty() ? "" : " ") + std::to_string(id);
  print_out(line + "\n");
}

int tokenize(const CommonOptions& common, const TokenizeOptions& options, bool text_given) {
  if (options.jsonl && (options.decode || options.count || text_given))
    throw Error(ExitCode::kUsage,
                "--jsonl reads its questions from stdin; TEXT, --decode and --count do not go with it");
  if (options.decode && options.count)
    throw Error(ExitCode::kUsage, "--decode gives text, --count counts tokens; ask for one");
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(small_files_folder(common));
  if (options.jsonl) {
    answer_lines(*tokenizer, options.no_special);
    return 0;
  }
  const std::string input = input_of(options, text_given);
  if (!options.decode) {
    print_ids(*tokenizer, tokenizer->encode(input, !options.no_special), options.count, common.json);
    return 0;
  }
  const std::string text = tokenizer->decode(parse_ids(input), options.no_special);
  if (common.json)
    print_json({{"schema", kSchema}, {"text", text}});
  else
    print_out(text + "\n");
  return 0;
}

}  // namespace

std::function<int()> declare_tokenize(CLI::App& app, const CommonOptions& common) {
  const auto options = std::make_shared<TokenizeOptions>();
  // No environment twin: $QTOOL_TEXT is the --text of `qtool evaluate`.
  CLI::Option* const text =
      app.add_option("text", options->text, "text to cut, or ids for --decode; left out: stdin");
  flag(app, "--no-special", options->no_special,
       "add no BOS or EOS; with --decode, leave special tokens out of the text");
  flag(app, "--decode", options->decode, "ids to text");
  flag(app, "--count", options->count, "print the number of tokens only");
  flag(app, "--jsonl", options->jsonl,
       R"(answer lines {"text": ..., "add_special_tokens": true} with {"ids": [...]} and )"
       R"({"ids": [...], "skip_special_tokens": false} with {"text": ...})");
  add_help(app, {"Needs only the tokenizer's files."},
           {"qtool tokenize ./model \"The capital of France is\"",
            "qtool tokenize ./model --count < book.txt", "qtool tokenize ./model --decode \"1, 450, 7483\"",
            "qtool tokenize ./model --jsonl < texts.jsonl > ids.jsonl"});
  return [&common, options, text] { return tokenize(common, *options, text->count() > 0); };
}

}  // namespace qtool
