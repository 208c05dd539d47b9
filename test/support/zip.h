// A zip archive with stored members, as torch.save() makes them, for tests that need wrong ones.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace qtool::test {

inline std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += i < 8 ? static_cast<char>(value >> (8 * i)) : '\0';
  return text;
}

struct ZipMemberSpec {
  std::string name, content;
  int method = 0;  // 0: stored
};

// Checksums are 0: nothing reads them.
inline std::string zip_archive(const std::vector<ZipMemberSpec>& members) {
  std::string archive, directory;
  for (const ZipMemberSpec& member : members) {
    const auto size = member.content.size();
    const std::string common = little_endian(0, 2) +
                               little_endian(static_cast<std::uint64_t>(member.method), 2) +
                               little_endian(0, 8) + little_endian(size, 4) + little_endian(size, 4) +
                               little_endian(member.name.size(), 2) + little_endian(0, 2);
    directory += "PK\x01\x02" + little_endian(0, 2) + little_endian(20, 2) + common + little_endian(0, 10) +
                 little_endian(archive.size(), 4) + member.name;
    archive += "PK\x03\x04" + little_endian(20, 2) + common + member.name + member.content;
  }
  const std::string count = little_endian(members.size(), 2);
  return archive + directory + "PK\x05\x06" + little_endian(0, 4) + count + count +
         little_endian(directory.size(), 4) + little_endian(archive.size(), 4) + little_endian(0, 2);
}

}  // namespace qtool::test
