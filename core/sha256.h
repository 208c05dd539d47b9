// SHA-256 (FIPS 180-4), for fingerprints of tensors and files.
#pragma once

#include "core/sha_blocks.h"

namespace qtool {

class Sha256 : public ShaBlocks<8> {
 public:
  Sha256();
};

}  // namespace qtool
