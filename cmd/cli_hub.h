// Commands and the Hub: when the cache is enough, and how a download is shown.
#pragma once

#include <memory>
#include <string>

#include "cmd/cli.h"
#include "formats/hub/hub.h"

namespace qtool {

// The Hub of the environment's settings, its notes on stderr and its downloads as progress.
Hub make_hub(const CommonOptions& common);

// Whether --offline or the environment forbids the network.
bool is_offline(const CommonOptions& common);

// The folder of a Hub model: what the cache holds if that is enough, without a request; else the Hub is
// asked. Errors: kNotFound, and those of Hub::fetch.
std::string hub_folder(const CommonOptions& common, const HubName& name, HubPart part);

// The same as a checkpoint of which headers are read.
Checkpoint open_hub_headers(const CommonOptions& common, const HubName& name);

}  // namespace qtool
