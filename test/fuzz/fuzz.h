// What all fuzz targets share. A target is one function from bytes to the reader of one kind of file: it may
// throw Error, as any reader of strangers' files, and nothing else.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "core/error.h"
#include "formats/file.h"

namespace qtool::test {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Bytes that stand for a file. Reading beyond them is the reader's mistake: files are as long as they say.
class MemorySource : public ByteSource {
 public:
  explicit MemorySource(std::string bytes) : bytes_(std::move(bytes)) {}
  std::int64_t size() const override { return std::ssize(bytes_); }
  void read_at(std::int64_t offset, std::span<std::byte> out) const override {
    if (offset < 0 || offset > size() || std::ssize(out) > size() - offset)
      throw internal_error("a reader went beyond the end of a file");
    std::copy_n(std::as_bytes(std::span(bytes_)).begin() + offset, out.size(), out.begin());
  }

 private:
  std::string bytes_;
};

inline InputFile memory_file(const std::uint8_t* data, std::size_t size) {
  return {"fuzz", std::make_shared<MemorySource>(std::string(text_of(data, size)))};
}

// A folder that disappears with the process; scripts/fuzz lets $TMPDIR lie in memory, where that can be had.
class FuzzFolder {
 public:
  FuzzFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "qtool-fuzz-XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp failed: " + pattern);
    path_ = pattern;
  }
  FuzzFolder(const FuzzFolder&) = delete;
  ~FuzzFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, std::string_view content) const {
    OutputFile(*this / name).write_at(0, std::as_bytes(std::span(content)));
  }

 private:
  std::string path_;
};

// A promise of the code under test.
inline void must_hold(bool promise, const char* what) {
  if (!promise) throw internal_error(what);
}

// Only errors of the file's own making end well: anything internal is a finding.
template <typename Reader>
int survives(Reader&& reader) {
  try {
    reader();
  } catch (const Error& error) {
    if (error.code() == ExitCode::kInternal) throw;
  }
  return 0;
}

}  // namespace qtool::test
