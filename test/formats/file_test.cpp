#include "formats/file.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "formats/replace_folder.h"
#include "test/support/make_checkpoint.h"

using namespace qtool;
namespace fs = std::filesystem;

namespace {

template <typename Action>
ExitCode code_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::kOk;
}

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

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

TEST_CASE("positioned writes, in any order") {
  const test::TempFolder folder;
  OutputFile file(folder / "a");
  file.resize(6);
  file.write_at(3, bytes_of("def"));
  file.write_at(0, bytes_of("abc"));
  file.sync();
  CHECK(test::read_text(folder / "a") == "abcdef");
  OutputFile moved = std::move(file);
  moved.write_at(6, bytes_of("g"));
  CHECK(test::read_text(folder / "a") == "abcdefg");
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

TEST_CASE("a folder appears whole") {
  const test::TempFolder folder;
  {
    AtomicFolder out(folder / "model", false);
    out.write("config.json", "{}");
    OutputFile big(out.path_of("big"));
    big.write_at(0, bytes_of("abc"));
    CHECK(!exists(folder / "model"));
    REQUIRE(names_in(folder.path()).size() == 1);
    CHECK(names_in(folder.path())[0].find(".model.qtool-") == 0);
    out.commit();
  }
  CHECK(names_in(folder.path()) == Names{"model"});
  CHECK(names_in(folder / "model") == Names{"big", "config.json"});
}

TEST_CASE("a folder that is not committed leaves nothing") {
  const test::TempFolder folder;
  {
    AtomicFolder out(folder / "model/", false);
    out.write("a", "b");
  }
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("targets that cannot be are refused at once") {
  const test::TempFolder folder;
  fs::create_directory(folder / "there");
  test::write_text(folder / "file", "");
  CHECK(code_of([&] { AtomicFolder(folder / "there", false); }) == ExitCode::kUsage);
  CHECK(code_of([&] { AtomicFolder(folder / "file", false); }) == ExitCode::kUsage);
  CHECK(code_of([&] { AtomicFolder(folder / "file", true); }) == ExitCode::kUsage);
  CHECK(code_of([&] { AtomicFolder(folder / "none/model", false); }) == ExitCode::kIo);
  CHECK(code_of([&] { AtomicFolder("", true); }) == ExitCode::kUsage);
  CHECK(code_of([&] { AtomicFolder("/", true); }) == ExitCode::kUsage);
  CHECK(names_in(folder.path()) == Names{"file", "there"});
}

TEST_CASE("replacing swaps the whole folder, and only at the end") {
  const test::TempFolder folder;
  fs::create_directory(folder / "model");
  test::write_text(folder / "model/old", "old");
  {
    AtomicFolder out(folder / "model", true);
    out.write("new", "new");
    CHECK(names_in(folder / "model") == Names{"old"});
  }
  CHECK(names_in(folder / "model") == Names{"old"});
  AtomicFolder out(folder / "model", true);
  out.write("new", "new");
  out.commit();
  CHECK(names_in(folder.path()) == Names{"model"});
  CHECK(names_in(folder / "model") == Names{"new"});
}

TEST_CASE("replacing works by renames, too") {
  const test::TempFolder folder;
  for (const char* name : {"made", "target"}) {
    fs::create_directory(folder / name);
    test::write_text(folder / name + "/" + name, "");
  }
  replace_folder(folder / "made", folder / "target", Exchange::kByRenames);
  CHECK(names_in(folder.path()) == Names{"target"});
  CHECK(names_in(folder / "target") == Names{"made"});
}

TEST_CASE("a rename that fails leaves the old folder in place") {
  const test::TempFolder folder;
  fs::create_directory(folder / "target");
  test::write_text(folder / "target/old", "");
  for (const Exchange how : {Exchange::kAtomic, Exchange::kByRenames}) {
    CHECK(code_of([&] { replace_folder(folder / "never made", folder / "target", how); }) == ExitCode::kIo);
    CHECK(names_in(folder.path()) == Names{"target"});
    CHECK(names_in(folder / "target") == Names{"old"});
  }
}

TEST_CASE("of several writers of one folder exactly one wins") {
  const test::TempFolder folder;
  constexpr int kWriters = 4;
  std::vector<pid_t> writers;
  for (int i = 0; i < kWriters; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      const ExitCode code = code_of([&] {
        AtomicFolder out(folder / "model", false);
        for (int k = 0; k < 20; ++k) out.write("file" + std::to_string(k), std::to_string(i));
        out.commit();
      });
      _exit(static_cast<int>(code));
    }
    writers.push_back(child);
  }
  int won = 0;
  for (const pid_t writer : writers) {
    int status = 0;
    REQUIRE(waitpid(writer, &status, 0) == writer);
    REQUIRE(WIFEXITED(status));
    won += WEXITSTATUS(status) == 0;
    CHECK((WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == static_cast<int>(ExitCode::kUsage)));
  }
  CHECK(won == 1);
  CHECK(names_in(folder.path()) == Names{"model"});
  const std::string first = test::read_text(folder / "model/file0");
  for (int k = 1; k < 20; ++k) CHECK(test::read_text(folder / "model/file" + std::to_string(k)) == first);
}
