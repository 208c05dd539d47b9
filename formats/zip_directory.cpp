#include "formats/zip_directory.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/limits.h"

namespace qtool {
namespace {

constexpr std::int64_t kEndBytes = 22, kMaxComment = 65535, kLocatorBytes = 20, kEnd64Bytes = 56;
constexpr std::int64_t kRecordBytes = 46, kLocalBytes = 30;
constexpr std::uint32_t kEndMark = 0x06054b50, kLocatorMark = 0x07064b50, kEnd64Mark = 0x06064b50;
constexpr std::uint32_t kRecordMark = 0x02014b50, kLocalMark = 0x04034b50;
constexpr std::uint16_t kZip64Extra = 1;
constexpr std::uint32_t kInExtra = 0xffffffff;  // a 32-bit field whose number stands in the zip64 extra field

// Little-endian numbers at places that the caller has checked.
template <typename Number>
Number at(std::string_view bytes, std::int64_t offset) {
  Number value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

class DirectoryReader {
 public:
  explicit DirectoryReader(const InputFile& file) : file_(file) {}

  std::map<std::string, ZipMember> read() {
    find_directory();
    const std::string records = text_at(begin_, bytes_, "its directory");
    std::map<std::string, ZipMember> members;
    std::int64_t offset = 0;
    for (std::int64_t i = 0; i < count_; ++i) {
      if (bytes_ - offset < kRecordBytes || at<std::uint32_t>(records, offset) != kRecordMark)
        fail("its directory ends before its " + std::to_string(count_) + " members do");
      const std::string_view record = std::string_view(records).substr(static_cast<std::size_t>(offset));
      const std::int64_t name_bytes = at<std::uint16_t>(record, 28),
                         extra_bytes = at<std::uint16_t>(record, 30);
      const std::int64_t size = kRecordBytes + name_bytes + extra_bytes + at<std::uint16_t>(record, 32);
      if (size > bytes_ - offset) fail("its directory is cut off");
      const std::string name(record.substr(kRecordBytes, static_cast<std::size_t>(name_bytes)));
      const ZipMember member = member_of(name, record,
                                         record.substr(static_cast<std::size_t>(kRecordBytes + name_bytes),
                                                       static_cast<std::size_t>(extra_bytes)));
      if (!members.emplace(name, member).second) fail("member '" + escaped(name) + "' is there twice");
      offset += size;
    }
    return members;
  }

 private:
  [[noreturn]] void fail(const std::string& message, ExitCode code = ExitCode::kMalformed) const {
    throw Error(code, escaped(file_.path()) + ": " + message, file_.path());
  }

  std::string text_at(std::int64_t offset, std::int64_t bytes, const char* what) const {
    if (offset < 0 || bytes < 0 || offset > file_.size() || bytes > file_.size() - offset)
      fail(std::string("cut off: ") + what + " does not lie within the file");
    std::string text(static_cast<std::size_t>(bytes), '\0');
    file_.read_at(offset, std::as_writable_bytes(std::span(text)));
    return text;
  }

  // A 64-bit number that is used as an offset or a count.
  std::int64_t natural(std::uint64_t number) const {
    if (number >> 62) fail("an offset beyond all bounds");
    return static_cast<std::int64_t>(number);
  }

  void find_directory() {
    const std::int64_t tail_bytes = std::min(file_.size(), kEndBytes + kMaxComment + kLocatorBytes);
    const std::string tail = text_at(file_.size() - tail_bytes, tail_bytes, "its end");
    for (std::int64_t end = tail_bytes - kEndBytes; end >= 0; --end) {
      if (at<std::uint32_t>(tail, end) != kEndMark) continue;
      count_ = at<std::uint16_t>(tail, end + 10);
      bytes_ = at<std::uint32_t>(tail, end + 12);
      begin_ = at<std::uint32_t>(tail, end + 16);
      if (end >= kLocatorBytes && at<std::uint32_t>(tail, end - kLocatorBytes) == kLocatorMark)
        read_zip64_end(natural(at<std::uint64_t>(tail, end - kLocatorBytes + 8)));
      else if (at<std::uint16_t>(tail, end + 4) != 0)
        fail("a zip archive in several parts, which is not supported", ExitCode::kUnsupported);
      if (bytes_ > kMaxDirectoryBytes)
        fail("its directory would have " + std::to_string(bytes_) + " bytes, more than the " +
             std::to_string(kMaxDirectoryBytes) + " that are read");
      if (count_ > bytes_ / kRecordBytes) fail("its directory is too short for its members");
      return;
    }
    fail("no zip archive: it has no end record");
  }

  void read_zip64_end(std::int64_t offset) {
    const std::string end = text_at(offset, kEnd64Bytes, "its zip64 end record");
    if (at<std::uint32_t>(end, 0) != kEnd64Mark) fail("its zip64 end record is not where it should be");
    count_ = natural(at<std::uint64_t>(end, 32));
    bytes_ = natural(at<std::uint64_t>(end, 40));
    begin_ = natural(at<std::uint64_t>(end, 48));
  }

  ZipMember member_of(const std::string& name, std::string_view record, std::string_view extra) const {
    const auto of = [&] { return "member '" + escaped(name) + "' "; };
    if (at<std::uint16_t>(record, 8) & 1) fail(of() + "is encrypted", ExitCode::kUnsupported);
    if (at<std::uint16_t>(record, 10) != 0)
      fail(of() + "is compressed, which torch's files are not", ExitCode::kUnsupported);
    // Of the fields that did not fit, the extra field has those, in this order.
    std::uint64_t fields[] = {at<std::uint32_t>(record, 24), at<std::uint32_t>(record, 20),
                              at<std::uint32_t>(record, 42)};  // size, stored size, local header
    std::string_view wide = zip64_of(extra);
    for (std::uint64_t& field : fields) {
      if (field != kInExtra) continue;
      if (wide.size() < 8) fail(of() + "lacks its zip64 numbers");
      field = at<std::uint64_t>(wide, 0);
      wide.remove_prefix(8);
    }
    if (fields[0] != fields[1]) fail(of() + "is stored with another size than its own");
    ZipMember member{natural(fields[2]), natural(fields[0])};
    // The local header has a name and an extra field of its own lengths.
    const std::string local = text_at(member.begin, kLocalBytes, "a member");
    if (at<std::uint32_t>(local, 0) != kLocalMark) fail(of() + "is not where the directory says");
    member.begin += kLocalBytes + at<std::uint16_t>(local, 26) + at<std::uint16_t>(local, 28);
    if (member.begin > file_.size() || member.bytes > file_.size() - member.begin)
      fail("cut off: " + of() + "ends behind the end of the file");
    return member;
  }

  static std::string_view zip64_of(std::string_view extra) {
    while (extra.size() >= 4) {
      const auto id = at<std::uint16_t>(extra, 0);
      const auto bytes = static_cast<std::size_t>(at<std::uint16_t>(extra, 2));
      extra.remove_prefix(4);
      if (bytes > extra.size()) break;
      if (id == kZip64Extra) return extra.substr(0, bytes);
      extra.remove_prefix(bytes);
    }
    return {};
  }

  const InputFile& file_;
  std::int64_t begin_ = 0, bytes_ = 0, count_ = 0;  // of the central directory
};

}  // namespace

std::map<std::string, ZipMember> read_zip_directory(const InputFile& file) {
  return DirectoryReader(file).read();
}

}  // namespace qtool
