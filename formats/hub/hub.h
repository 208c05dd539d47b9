// The Hugging Face Hub as a place models come from: a name -> a folder in the cache.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/hub/listing.h"
#include "formats/hub/name.h"
#include "formats/hub/observer.h"
#include "formats/hub/settings.h"

namespace qtool {

class HubConnections;

enum class HubPart { kAll, kWithoutWeights };

// A model as it lies in the cache already.
struct CachedModel {
  std::string folder;   // .../snapshots/COMMIT
  bool usable = false;  // what was asked for is there, as far as a folder can tell
  bool whole = false;   // and a tokenizer, which a program that did not need it may have left on the Hub
};

struct HubSnapshot {
  struct Entry {
    HubFile file;
    bool downloaded = false;  // by this call; otherwise it was there
  };
  std::string folder;  // .../snapshots/COMMIT
  std::string commit;
  std::vector<Entry> files;      // what the folder shows of the model
  std::vector<HubFile> weights;  // with kWithoutWeights: what was left on the Hub
};

class Hub {
 public:
  Hub(HubSettings settings, std::shared_ptr<HubObserver> observer);

  // What the cache holds, without a request. Nothing if it never saw this revision. Errors: kMalformed, kIo.
  std::optional<CachedModel> cached(const HubName& name, HubPart part) const;

  // Asks the Hub what the revision is now and fetches what of it the cache lacks. The folder shows
  // config.json only after everything else, and the revision points to it last: whoever finds a snapshot of
  // qtool's finds all of it. Errors: kNotFound, kNetwork, kVerification, kIo, kMalformed, kInterrupted.
  HubSnapshot fetch(const HubName& name, HubPart part) const;

  // The weights left on the Hub, to be read by range requests.
  RemoteFiles remote_weights(const HubName& name, const HubSnapshot& snapshot) const;

 private:
  std::vector<bool> download(const HubName& name, const std::string& commit,
                             const std::vector<HubFile>& files) const;
  std::string root_;
  std::shared_ptr<HubConnections> connections_;
};

}  // namespace qtool
