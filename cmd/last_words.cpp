#include "cmd/last_words.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string_view>
#include <unistd.h>

#include "core/error.h"
#include "core/memory_reserve.h"

namespace qtool {
namespace {

int argument_count = 0;
char** arguments = nullptr;

[[noreturn]] void terminate() {
  if (memory_ran_out()) _exit(last_words(argument_count, arguments));
  std::abort();
}

}  // namespace

int last_words(int argc, char** argv) {
  std::string_view words = "qtool: out of memory\n";
  for (int i = 1; i < argc; ++i)
    if (std::strcmp(argv[i], "--json") == 0)
      words =
          R"({"schema":"qtool.error/1","error":{"code":6,"kind":"memory","message":"out of memory","path":null}})"
          "\n";
  const ssize_t ignored = ::write(STDERR_FILENO, words.data(), words.size());
  static_cast<void>(ignored);
  return static_cast<int>(ExitCode::kMemory);
}

void expect_last_words(int argc, char** argv) {
  argument_count = argc;
  arguments = argv;
  std::set_terminate(terminate);
}

}  // namespace qtool
