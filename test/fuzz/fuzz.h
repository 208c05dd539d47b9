// What all fuzz targets share. A target is one function from bytes to the reader of one kind of file: it may
// throw Error, as any reader of strangers' files, and nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unistd.h>

#include "core/error.h"
#include "formats/file.h"

namespace qtool::test {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// A file of these bytes that needs no disk.
inline InputFile memory_file(const std::uint8_t* data, std::size_t size) {
  static const std::string path = "/dev/shm/qtool-fuzz-" + std::to_string(getpid());
  OutputFile out(path);
  out.write_at(0, std::as_bytes(std::span(data, size)));
  InputFile file(path);
  ::unlink(path.c_str());
  return file;
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
