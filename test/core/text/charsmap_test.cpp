// Compiled normalization tables: the small one of our test tokenizer, and damaged ones.
#include "core/text/charsmap.h"

#include <catch2/catch.hpp>

#include "core/error.h"

using namespace qtool;

namespace {

std::string u32(std::uint32_t value) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
  return bytes;
}

// A double array that maps "a" to the replacement at `value`: the root's children lie at offset 1, so 'a' at
// 1 ^ 0x61, and the value below it at that unit's own offset.
std::string table(std::uint32_t value, const std::string& replacements) {
  constexpr std::uint32_t kChild = 1 ^ 0x61;  // 0x60
  constexpr std::uint32_t kHasLeaf = 1u << 8;
  std::string units;
  for (std::uint32_t i = 0; i < 0x80; ++i) {
    std::uint32_t unit = 0;
    if (i == 0) unit = 1u << 10;
    if (i == kChild) unit = 0x61u | kHasLeaf | (1u << 10);
    if (i == (kChild ^ 1)) unit = 0x80000000u | value;
    units += u32(unit);
  }
  return u32(static_cast<std::uint32_t>(units.size())) + units + replacements;
}

constexpr std::size_t kEnough = 1 << 20;
const std::string kWords("x\0longer\0\xC3\xA9\0", 12);

}  // namespace

TEST_CASE("a table of one row replaces its row") {
  CHECK(Charsmap(table(0, kWords)).normalize("banana", kEnough) == "bxnxnx");
  CHECK(Charsmap(table(2, kWords)).normalize("a", kEnough) == "longer");
  CHECK(Charsmap(table(1, kWords)).normalize("cab", kEnough) == "cb");  // by nothing
  // A short grapheme is replaced as a whole by what its beginning has; of a long one only the character is.
  CHECK(Charsmap(table(0, kWords)).normalize("a\u0301", kEnough) == "x");
  CHECK(Charsmap(table(0, kWords)).normalize("a\u0301\u0301\u0301", kEnough) == "x\u0301\u0301\u0301");
  CHECK(Charsmap(table(0, kWords)).normalize(std::string("a\0\xF0\x9F\x98\x80\r\n", 8), kEnough) ==
        std::string("x\0\xF0\x9F\x98\x80\r\n", 8));
}

TEST_CASE("damaged tables are malformed, when read or when used") {
  for (const std::string& bytes : {std::string(), std::string("\0\0\0", 3), u32(0) + "x", u32(3) + "abc",
                                   u32(8) + u32(0), u32(0xFFFFFFFC) + u32(0), u32(4) + u32(0) + "\xFF"})
    CHECK_THROWS_AS(Charsmap(bytes), Error);
  CHECK_THROWS_AS(Charsmap(table(500, kWords)).normalize("a", kEnough), Error);  // behind the end
  CHECK_THROWS_AS(Charsmap(table(10, kWords)).normalize("a", kEnough), Error);   // inside a character
  CHECK_THROWS_AS(Charsmap(table(2, kWords)).normalize(std::string(1000, 'a'), 100), Error);
  // Units that point anywhere end the search, wherever that is.
  CHECK(Charsmap(u32(4) + u32(0xFFFFFFFFu) + "x").normalize("ab\u00E9", kEnough) == "ab\u00E9");
}
