// SHA-1 (FIPS 180-4): what git names files by. Against accidents, not against forgers.
#pragma once

#include "core/sha_blocks.h"

namespace qtool {

class Sha1 : public ShaBlocks<5> {
 public:
  Sha1();
};

}  // namespace qtool
