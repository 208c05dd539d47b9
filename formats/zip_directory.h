// The directory of a zip archive whose members are stored as they are: where each one's bytes lie.
//
//   member: local header (30 bytes, name, extra) | bytes     ... one after the other
//   central directory: one record a member | end record (22 bytes, comment)
//
// Archives beyond 4 GB or 65535 members keep their large numbers in zip64 records. Source: PKWARE's
// APPNOTE.TXT 6.3, sections 4.3 to 4.5.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "formats/file.h"

namespace qtool {

struct ZipMember {
  std::int64_t begin = 0;  // offset of its bytes in the file
  std::int64_t bytes = 0;
};

// Members by name. Errors: kMalformed (no zip archive, cut off, a member outside the file or there twice),
// kUnsupported (compressed, encrypted, in several parts).
std::map<std::string, ZipMember> read_zip_directory(const InputFile& file);

}  // namespace qtool
