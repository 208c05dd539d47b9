#include "cmd/cli_hub.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <spdlog/spdlog.h>

#include "cmd/parallel.h"

namespace qtool {
namespace {

constexpr int kRequests = 8;                          // at a time
constexpr std::int64_t kSmallTensor = 4096;           // a quant_state has some 200 bytes
constexpr std::string_view kState = ".quant_state.";  // bitsandbytes' own description of a 4-bit weight

class StderrObserver : public HubObserver {
 public:
  explicit StderrObserver(const CommonOptions& common) : common_(common) {}
  void note(const std::string& sentence) override { spdlog::info("{}", escaped(sentence)); }
  void begin(const std::string& what, std::int64_t bytes) override {
    spdlog::info("{}: {} to download", escaped(what), human_bytes(bytes));
    progress_.emplace(common_, what, bytes);
  }
  void advance(std::int64_t bytes) override {
    if (progress_) progress_->advance(bytes);
  }
  void end() override { progress_.reset(); }

 private:
  const CommonOptions& common_;
  std::optional<Progress> progress_;
};

HubSettings settings_of(const CommonOptions& common) {
  HubSettings settings = hub_settings();
  settings.offline = settings.offline || common.offline;
  settings.user_agent = "qtool/" QTOOL_VERSION;
  return settings;
}

[[noreturn]] void not_cached(const CommonOptions& common, const HubName& name,
                             const std::optional<CachedModel>& cached) {
  const HubSettings settings = settings_of(common);
  const std::string cache = "the Hugging Face cache (" + escaped(settings.cache) + ")";
  const std::string repository = name.repository;
  std::string folder = repository;
  folder.replace(folder.find('/'), 1, "--");
  const bool other = is_directory(settings.cache + "/models--" + folder);
  const std::string state = cached  ? " is in " + cache + " only in part"
                            : other ? " is in " + cache + ", but not its revision " + escaped(name.revision)
                                    : " is neither a folder here nor in " + cache;
  throw Error(ExitCode::kNotFound, repository + state + ", and " +
                                       (common.offline ? "--offline" : "HF_HUB_OFFLINE") +
                                       " forbids to download it; run 'qtool pull " + escaped(name.text()) +
                                       "' once with the network");
}

// What the cache holds, if there is no need to ask the Hub.
std::optional<std::string> enough_in_cache(const CommonOptions& common, const HubName& name,
                                           const std::optional<CachedModel>& cached) {
  if (cached && cached->whole) return cached->folder;
  if (!is_offline(common)) return std::nullopt;
  if (cached && cached->usable) return cached->folder;
  not_cached(common, name, cached);
}

// With the network down, what is cached has to do, if it may.
std::string fallback(const Error& error, const std::optional<CachedModel>& cached) {
  if (error.code() != ExitCode::kNetwork || !cached || !cached->usable) throw error;
  spdlog::warn("{}; going on with what the cache holds", error.what());
  return cached->folder;
}

// Small tensors far apart would cost a round trip each, one after the other: they are fetched side by side.
void read_ahead(const Checkpoint& checkpoint) {
  std::vector<const StoredTensor*> wanted;
  for (const auto& [name, tensor] : checkpoint.tensors())
    if (name.find(kState) != std::string::npos && tensor.info.bytes <= kSmallTensor)
      wanted.push_back(&tensor);
  for_each_index(wanted.size(), kRequests, [&](std::size_t i) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(wanted[i]->info.bytes));
    checkpoint.read(*wanted[i], 0, bytes);
  });
}

}  // namespace

Hub make_hub(const CommonOptions& common) {
  return Hub(settings_of(common), std::make_shared<StderrObserver>(common));
}

bool is_offline(const CommonOptions& common) { return settings_of(common).offline; }

std::string hub_folder(const CommonOptions& common, const HubName& name, HubPart part) {
  const Hub hub = make_hub(common);
  const auto cached = hub.cached(name, part);
  if (const auto folder = enough_in_cache(common, name, cached)) return *folder;
  try {
    return hub.fetch(name, part).folder;
  } catch (const Error& error) {
    return fallback(error, cached);
  }
}

Checkpoint open_hub_headers(const CommonOptions& common, const HubName& name) {
  const Hub hub = make_hub(common);
  const auto cached = hub.cached(name, HubPart::kAll);
  if (const auto folder = enough_in_cache(common, name, cached)) return Checkpoint::open(*folder);
  try {
    const HubSnapshot snapshot = hub.fetch(name, HubPart::kWithoutWeights);
    Checkpoint checkpoint = Checkpoint::open(snapshot.folder, hub.remote_weights(name, snapshot));
    read_ahead(checkpoint);
    return checkpoint;
  } catch (const Error& error) {
    return Checkpoint::open(fallback(error, cached));
  }
}

}  // namespace qtool
