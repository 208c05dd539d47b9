#include "formats/system_error.h"

#include <catch2/catch.hpp>

using namespace qtool;

TEST_CASE("memory that a file function lacked is no fault of the file") {
  const Error memory =
      system_failure("cannot list", "a\x1b", std::make_error_code(std::errc::not_enough_memory));
  CHECK(memory.code() == ExitCode::kMemory);
  CHECK(std::string(memory.what()) == "cannot list 'a\\x1b': Cannot allocate memory");
  const Error denied = system_failure("cannot read", "b", std::make_error_code(std::errc::permission_denied));
  CHECK(denied.code() == ExitCode::kIo);
  CHECK(std::string(denied.what()) == "cannot read 'b': Permission denied");
}
