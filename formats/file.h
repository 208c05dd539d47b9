// Files: positioned reads and writes that are never short silently.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "core/limits.h"

namespace qtool {

// Bytes of known number that lie elsewhere than in a file of this machine.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual std::int64_t size() const = 0;
  // Fills all of `out` from `offset`. Thread-safe.
  virtual void read_at(std::int64_t offset, std::span<std::byte> out) const = 0;
};

// A file open for reading. Reads are positioned (pread), so one object serves many threads. Not
// memory-mapped: a mapped file that shrinks kills the process with SIGBUS, and its pages count as resident
// memory.
class InputFile {
 public:
  explicit InputFile(const std::string& path);  // errors: kNotFound, kIo
  // Stands for a file that is not here; `path` names it in messages.
  InputFile(const std::string& path, std::shared_ptr<const ByteSource> source);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  const std::string& path() const { return path_; }
  std::int64_t size() const { return size_; }

  // Fills all of `out` from `offset`. Errors: kIo, also when the file has shrunk since it was opened.
  void read_at(std::int64_t offset, std::span<std::byte> out) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
  std::shared_ptr<const ByteSource> source_;  // in place of the descriptor
};

// The whole content of a small file of a model. Errors: kNotFound, kIo (also for what is no regular file: a
// pipe in a model's folder would be waited for for ever), kMalformed when it is larger than `max_bytes`.
std::string read_file(const std::string& path, std::int64_t max_bytes = kMaxVocabularyBytes);

// The same of something the user names, which may be a pipe.
std::string read_input(const std::string& path, std::int64_t max_bytes);

// A file of known or growing size open for positioned writing. Thread-safe. What is written goes to the disk
// while the rest is still made, so that sync() finds little left.
class OutputFile {
 public:
  enum class Existing { kEmptied, kKept };  // what becomes of a file that is there already
  explicit OutputFile(const std::string& path, Existing existing = Existing::kEmptied);  // errors: kIo
  OutputFile(const OutputFile&) = delete;
  ~OutputFile();

  const std::string& path() const { return path_; }
  void write_at(std::int64_t offset,
                std::span<const std::byte> data);  // errors: kIo with path, errno and free space
  void resize(std::int64_t bytes);
  void sync();  // data is on the disk when it returns

 private:
  std::string path_;
  int descriptor_ = -1;
  // The system lets one thread at a time write to a file and has the others spin: sixteen of them spent 30
  // seconds of their cores in it where six spent 6.
  std::mutex turn_;
  std::int64_t fresh_ = 0;  // bytes written that the disk has not been asked to take
};

bool is_directory(const std::string& path);
bool exists(const std::string& path);
std::int64_t free_bytes_at(const std::string& path);  // of the file system that holds `path` or its parent

}  // namespace qtool
