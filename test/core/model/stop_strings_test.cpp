#include "core/model/stop_strings.h"

#include "test/support/paths.h"

using qtool::StopStrings;

namespace {

// What is shown of `pieces` in all.
std::string shown_of(StopStrings& stops, const std::vector<std::string>& pieces) {
  std::string text;
  for (const std::string& piece : pieces) text += stops.push(piece);
  return text + (stops.found() ? "" : stops.finish());
}

}  // namespace

TEST_CASE("a stop string is found across pieces and not shown") {
  StopStrings stops({"\n\nQ:"});
  CHECK(stops.push("Paris.\n") == "Paris.");
  CHECK(stops.push("\n").empty());
  CHECK(stops.push("Q: What").empty());
  CHECK(stops.found());
  CHECK(stops.push("more").empty());
}

TEST_CASE("what turns out to be no stop string is shown after all") {
  StopStrings stops({"abac"});
  CHECK(stops.push("xaba") == "x");
  CHECK(stops.push("bac!") == "ab");  // "ab" + the stop string that began inside what was held back
  CHECK(stops.found());
}

TEST_CASE("of several stop strings the one that begins first counts") {
  StopStrings stops({"world", "lo"});
  CHECK(shown_of(stops, {"hel", "lo wor", "ld"}) == "hel");
}

TEST_CASE("text without a stop string is shown whole") {
  StopStrings stops({"END", "EN"});
  CHECK(shown_of(stops, {"THE E", "", "E", "ast", " E"}) == "THE EEast E");
  CHECK_FALSE(stops.found());
  StopStrings none({});
  CHECK(none.push("at once") == "at once");
}
