// Output folders that appear whole or not at all, and what a killed writer leaves to the next one.
#include "formats/atomic_folder.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "formats/file.h"
#include "formats/replace_folder.h"
#include "test/support/errors.h"
#include "test/support/make_checkpoint.h"

using namespace qtool;
using qtool::test::code_of;
namespace fs = std::filesystem;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

// What a process that is killed while it writes leaves.
void abandon(const std::string& target, const std::vector<std::string>& notes, bool replace = false) {
  AtomicFolder out(target, replace);
  out.write("finished", "f");
  out.write("begun", "b");
  for (const std::string& note : notes) out.note(note, Journal::Sync::kYes);
  out.suspend();
}

}  // namespace

TEST_CASE("a folder appears whole") {
  const test::TempFolder folder;
  {
    AtomicFolder out(folder / "model", false);
    out.write("config.json", "{}");
    OutputFile big(out.path_of("big"));
    big.write_at(0, bytes_of("abc"));
    CHECK(!exists(folder / "model"));
    CHECK(names_in(folder.path()) == Names{".model.qtool", ".model.qtool-journal"});
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

TEST_CASE("a second writer is told that there is a first one") {
  const test::TempFolder folder;
  {
    AtomicFolder first(folder / "model", false);
    first.write("a", "first");
    CHECK(code_of([&] { AtomicFolder(folder / "model", false); }) == ExitCode::kUsage);
    CHECK(code_of([&] { AtomicFolder(folder / "model", true, Leftovers::kKept); }) == ExitCode::kUsage);
    remove_leftovers(folder / "model");  // they are not: their writer lives
    AtomicFolder other(folder / "other", false);
    first.commit();
    CHECK(code_of([&] { AtomicFolder(folder / "model", false); }) == ExitCode::kUsage);
  }
  CHECK(names_in(folder.path()) == Names{"model"});
  CHECK(names_in(folder / "model") == Names{"a"});
}

TEST_CASE("what a killed writer has left is discarded") {
  const test::TempFolder folder;
  abandon(folder / "model", {"work"});
  CHECK(names_in(folder.path()) == Names{".model.qtool", ".model.qtool-journal"});
  AtomicFolder out(folder / "model", false);
  CHECK(out.discarded());
  CHECK(out.notes().empty());
  out.write("a", "");
  out.commit();
  CHECK(names_in(folder.path()) == Names{"model"});
  CHECK(names_in(folder / "model") == Names{"a"});
}

TEST_CASE("or kept, as far as its successor wants it") {
  const test::TempFolder folder;
  abandon(folder / "model", {"work", "one", "two"});
  {
    AtomicFolder out(folder / "model", false, Leftovers::kKept);
    CHECK_FALSE(out.discarded());
    CHECK(out.notes() == Names{"work", "one", "two"});
    out.keep_only({"finished"});
    out.note("three", Journal::Sync::kNo);
    out.suspend();
  }
  CHECK(names_in(folder / ".model.qtool") == Names{"finished"});
  {
    AtomicFolder out(folder / "model", false, Leftovers::kKept);
    CHECK(out.notes() == Names{"work", "one", "two", "three"});
    out.keep_only({});
    CHECK(out.notes().empty());
    out.suspend();
  }
  {
    AtomicFolder out(folder / "model", false, Leftovers::kKept);
    CHECK(out.notes().empty());
  }
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("half a note is none") {
  const test::TempFolder folder;
  abandon(folder / "model", {"work", "one"});
  const std::string journal = folder / ".model.qtool-journal";
  test::write_text(journal, test::read_text(journal) + "tw");
  AtomicFolder out(folder / "model", false, Leftovers::kKept);
  CHECK(out.notes() == Names{"work", "one"});
  out.note("three", Journal::Sync::kYes);
  CHECK(test::read_text(journal) == "work\none\nthree\n");
}

TEST_CASE("leftovers that are no folder, or no file, are not followed") {
  const test::TempFolder folder;
  fs::create_directory(folder / "elsewhere");
  test::write_text(folder / "elsewhere/precious", "p");
  abandon(folder / "model", {"work"});
  fs::remove_all(folder / ".model.qtool");
  fs::create_directory_symlink(folder / "elsewhere", folder / ".model.qtool");
  {
    AtomicFolder out(folder / "model", false, Leftovers::kKept);
    CHECK(out.notes().empty());
    out.write("a", "b");
  }
  CHECK(names_in(folder.path()) == Names{"elsewhere"});
  CHECK(names_in(folder / "elsewhere") == Names{"precious"});
  fs::create_symlink(folder / "elsewhere/precious", folder / ".model.qtool-journal");
  CHECK(code_of([&] { AtomicFolder(folder / "model", false); }) == ExitCode::kIo);
  CHECK(test::read_text(folder / "elsewhere/precious") == "p");
}

TEST_CASE("the folder that was replaced is never taken for what replaces it") {
  const test::TempFolder folder;
  fs::create_directory(folder / "model");
  test::write_text(folder / "model/finished", "old");
  abandon(folder / "model", {"work"}, true);
  {
    AtomicFolder out(folder / "model", true, Leftovers::kKept);
    REQUIRE(out.notes() == Names{"work"});
    out.commit();
  }
  CHECK(test::read_text(folder / "model/finished") == "f");
  CHECK(names_in(folder.path()) == Names{"model"});
}
