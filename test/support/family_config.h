// The config.json of a family's sample, whole or changed.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "formats/json.h"
#include "test/support/paths.h"

namespace qtool::test {

// `changes` over the config.json of test/data/families/`sample`. A value "absent" removes the key; null is a
// value like others.
inline Json family_config(const std::string& sample, const std::string& changes = "{}") {
  Json config = read_json_file(data("families/" + sample + "/config.json"));
  const Json over = parse_json(changes, "changes");
  for (const auto& [key, value] : over.items()) {
    if (value == "absent")
      config.erase(key);
    else
      config[key] = value;
  }
  return config;
}

}  // namespace qtool::test
