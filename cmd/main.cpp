// qtool: what was asked for is found, declared, parsed and run; and the program's only catch.
#include <csignal>
#include <filesystem>
#include <new>

#include "cmd/commands.h"
#include "cmd/last_words.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/memory_reserve.h"
#include "formats/system_error.h"

namespace {

using namespace qtool;

constexpr int kPipeClosed = 128 + SIGPIPE;

bool among(const std::vector<std::string>& words, std::string_view a, std::string_view b) {
  for (const std::string& word : words) {
    if (word == "--") return false;
    if (word == a || word == b) return true;
  }
  return false;
}

int run_program(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && words[0] == "help") {  // `qtool help generate` is `qtool generate --help`
    words.erase(words.begin());
    words.emplace_back("--help");
  }
  const bool named = !words.empty() && !words[0].starts_with('-');
  const bool json = among(words, "--json", "--json");
  std::string program = "qtool";
  CLI::App app;
  CommonOptions common;
  try {
    if (among(words, "--version", "--version")) return print_out(version_line()), 0;
    if (!named && among(words, "--help", "-h")) return print_out(overview(subcommands())), 0;
    if (!named) throw Error(ExitCode::kUsage, "which command? 'qtool --help' lists them");

    const Subcommand& command = find_command(subcommands(), words[0]);
    program += " " + words[0];
    begin_options(app, program, command, common);
    const auto run = command.declare(app, common);
    add_common_options(app, common);
    if (among(words, "--help", "-h")) return print_out(app.help()), 0;
    app.parse(std::vector<std::string>(words.rbegin(), words.rend() - 1));  // CLI11 takes them last first
    start_logging(common);
    return run();
  } catch (const ClosedPipe&) {
    return kPipeClosed;
  } catch (const CLI::ParseError& complaint) {
    return report(usage_error(app, complaint), program, json);
  } catch (const Error& error) {
    return report(error, program, json || common.json);
  } catch (const std::bad_alloc&) {
    return report(Error(ExitCode::kMemory, "out of memory"), program, json || common.json);
  } catch (const std::filesystem::filesystem_error& error) {
    return report(system_failure("file system error at", error.path1().string(), error.code()), program,
                  json || common.json);
  } catch (const std::exception& error) {
    return report(internal_error(error.what()), program, json || common.json);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is seen where it is written to
  catch_interrupts();
  reserve_memory();
  expect_last_words(argc, argv);
  try {
    return run_program(argc, argv);
  } catch (...) {  // from the reports above: only want of memory ends them
    return last_words(argc, argv);
  }
}
