#include "formats/file.h"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "core/error.h"
#include "test/support/errors.h"
#include "test/support/make_checkpoint.h"

using namespace qtool;
using qtool::test::code_of;
namespace fs = std::filesystem;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

}  // namespace

TEST_CASE("positioned reads give what is there or fail") {
  const test::TempFolder folder;
  test::write_text(folder / "a", "0123456789");
  const InputFile file(folder / "a");
  CHECK(file.size() == 10);
  std::string text(4, ' ');
  file.read_at(3, std::as_writable_bytes(std::span(text)));
  CHECK(text == "3456");
  CHECK(code_of([&] { file.read_at(7, std::as_writable_bytes(std::span(text))); }) == ExitCode::kIo);
  fs::resize_file(folder / "a", 5);
  CHECK(code_of([&] { file.read_at(3, std::as_writable_bytes(std::span(text))); }) == ExitCode::kIo);
}

TEST_CASE("what cannot be opened says why") {
  const test::TempFolder folder;
  CHECK(code_of([&] { InputFile(folder / "none"); }) == ExitCode::kNotFound);
  CHECK(code_of([&] { InputFile(folder.path()); }) == ExitCode::kIo);
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(code_of([&] { InputFile(folder / "pipe"); }) == ExitCode::kIo);  // and does not wait for a writer
  CHECK(code_of([&] { OutputFile(folder / "none/file"); }) == ExitCode::kIo);
  CHECK(code_of([&] { read_file(folder / "none"); }) == ExitCode::kNotFound);
  CHECK(code_of([&] { read_file(folder.path()); }) == ExitCode::kIo);
}

TEST_CASE("small files are read whole and large ones refused") {
  const test::TempFolder folder;
  const std::string text(200000, 'x');
  test::write_text(folder / "a", text);
  CHECK(read_file(folder / "a") == text);
  CHECK(read_file(folder / "a", 200000) == text);
  CHECK(code_of([&] { read_file(folder / "a", 199999); }) == ExitCode::kMalformed);
  test::write_text(folder / "empty", "");
  CHECK(read_file(folder / "empty").empty());
}

TEST_CASE("a pipe is read where the user names it, and not waited for in a model") {
  const test::TempFolder folder;
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(code_of([&] { read_file(folder / "pipe"); }) == ExitCode::kIo);
  std::thread writer([&] { test::write_text(folder / "pipe", "abc"); });
  CHECK(read_input(folder / "pipe", 100) == "abc");
  writer.join();
  test::write_text(folder / "a", "abc");
  CHECK(read_input(folder / "a", 3) == "abc");
  CHECK(code_of([&] { read_input(folder / "a", 2); }) == ExitCode::kMalformed);
}

TEST_CASE("positioned writes, in any order") {
  const test::TempFolder folder;
  OutputFile file(folder / "a");
  file.resize(6);
  file.write_at(3, bytes_of("def"));
  file.write_at(0, bytes_of("abc"));
  file.sync();
  CHECK(test::read_text(folder / "a") == "abcdef");
}

TEST_CASE("many threads write more to a file than waits for the disk") {
  const test::TempFolder folder;
  constexpr std::int64_t kPiece = std::int64_t{3} << 20, kPieces = 60;
  OutputFile file(folder / "a");
  std::atomic<std::int64_t> next{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      std::vector<std::byte> data(kPiece);
      for (std::int64_t piece = next++; piece < kPieces; piece = next++) {
        std::ranges::fill(data, static_cast<std::byte>(piece + 1));
        file.write_at((kPieces - 1 - piece) * kPiece, data);
      }
    });
  for (std::thread& thread : threads) thread.join();
  file.sync();
  const InputFile written(folder / "a");
  REQUIRE(written.size() == kPieces * kPiece);
  std::vector<std::byte> data(kPiece);
  for (std::int64_t piece = 0; piece < kPieces; ++piece) {
    written.read_at((kPieces - 1 - piece) * kPiece, data);
    CHECK(std::ranges::count(data, static_cast<std::byte>(piece + 1)) == kPiece);
  }
}

TEST_CASE("a full disk is named with the space left") {
  if (::access("/dev/full", W_OK) != 0) {
    WARN("SKIPPED: there is no /dev/full");
    return;
  }
  OutputFile file("/dev/full");
  try {
    file.write_at(0, bytes_of("x"));
    FAIL("written");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kIo);
    CHECK(std::string(error.what()).find("bytes free") != std::string::npos);
  }
}

TEST_CASE("free space is that of the nearest folder that exists") {
  const test::TempFolder folder;
  CHECK(free_bytes_at(folder.path()) > 0);
  CHECK(free_bytes_at(folder / "not/there/yet") > 0);
  CHECK(free_bytes_at("relative") > 0);
}
