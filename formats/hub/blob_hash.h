// What the name of a cached blob promises about its bytes. Large files (git LFS) are named by the SHA-256 of
// their content; small ones as git does it, by the SHA-1 of "blob <size>\0" and the content.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "core/sha256.h"
#include "formats/hub/sha1.h"

namespace qtool {

class BlobHash {
 public:
  // `etag` as is_etag() has it: its length says which.
  BlobHash(const std::string& etag, std::int64_t size) {
    if (etag.size() == 64) {
      hash_ = Sha256();
    } else {
      Sha1 sha1;
      sha1.update("blob " + std::to_string(size));
      sha1.update(std::string_view("\0", 1));
      hash_ = sha1;
    }
  }

  void update(std::span<const std::byte> data) {
    std::visit([&](auto& hash) { hash.update(data); }, hash_);
  }
  std::string hex_digest() {
    return std::visit([](auto& hash) { return hash.hex_digest(); }, hash_);
  }

 private:
  std::variant<Sha256, Sha1> hash_;
};

}  // namespace qtool
