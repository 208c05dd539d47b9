// Where tests find their data, and how they say that they skip.
#pragma once

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

namespace qtool::test {

inline std::string data(const std::string& name) { return std::string(QTOOL_TEST_DATA) + "/" + name; }
inline std::string shared(const std::string& name) { return std::string(QTOOL_SHARED) + "/" + name; }

// Reference material that is not part of the repository. Where it is absent the test says so and ends:
//   if (!has_shared("golden")) return;
inline bool has_shared(const std::string& name) {
  if (std::filesystem::exists(shared(name))) return true;
  WARN("SKIPPED: " << shared(name) << " is not there");
  return false;
}

}  // namespace qtool::test
