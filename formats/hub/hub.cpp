#include "formats/hub/hub.h"

#include <algorithm>
#include <set>

#include "formats/file.h"
#include "formats/hub/cache.h"
#include "formats/hub/connections.h"
#include "formats/hub/download.h"
#include "formats/hub/remote_file.h"
#include "formats/hub/selection.h"

namespace qtool {
namespace {

std::set<std::string> names_of(const std::vector<HubFile>& files) {
  std::set<std::string> names;
  for (const HubFile& file : files) names.insert(file.path);
  return names;
}

std::vector<HubFile> small_files(const std::vector<HubFile>& all, const std::string& index) {
  std::vector<HubFile> small;
  for (const HubFile& file : all)
    if (is_small_model_file(file.path) || (!index.empty() && file.path == index)) small.push_back(file);
  return small;
}

std::vector<HubFile> files_named(const std::vector<HubFile>& all, const std::vector<std::string>& names,
                                 const std::string& what) {
  std::vector<HubFile> found;
  for (const std::string& name : names) {
    const auto at =
        std::find_if(all.begin(), all.end(), [&](const HubFile& file) { return file.path == name; });
    if (at == all.end())
      throw Error(ExitCode::kMalformed,
                  what + ": its index of weights names '" + escaped(name) + "', which it does not hold");
    found.push_back(*at);
  }
  return found;
}

RemoteBlob remote_blob(const HubContext& context, const HubName& name, const std::string& commit,
                       const HubFile& file) {
  return {file, resolve_url(context.settings, name, commit, file.path), name.text() + ": " + file.path};
}

bool is_config(const HubFile& file) { return file.path == "config.json"; }

}  // namespace

Hub::Hub(HubSettings settings, std::shared_ptr<HubObserver> observer)
    : root_(settings.cache),
      connections_(std::make_shared<HubConnections>(std::move(settings), std::move(observer))) {}

std::optional<CachedModel> Hub::cached(const HubName& name, HubPart part) const {
  const HubCache cache(root_, name.repository);
  const auto commit = cache.commit_of(name.revision);
  if (!commit || !is_directory(cache.snapshot(*commit))) return std::nullopt;
  cache.check_links(*commit);
  const Holdings held = holdings_of(cache.snapshot(*commit));
  const bool usable =
      part == HubPart::kWithoutWeights ? held.config || held.tokenizer : held.config && held.weights;
  return CachedModel{cache.snapshot(*commit), usable, usable && held.config && held.tokenizer};
}

// Brings the blobs of `files` into the cache; returns which of them were fetched.
std::vector<bool> Hub::download(const HubName& name, const std::string& commit,
                                const std::vector<HubFile>& files) const {
  const HubContext context = connections_->context();
  const HubCache cache(root_, name.repository);
  std::vector<bool> missing(files.size());
  std::vector<std::size_t> order;
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < files.size(); ++i) {
    missing[i] = !cache.holds(files[i]) && !cache.shows(commit, files[i]);
    if (!missing[i]) continue;
    order.push_back(i);
    bytes += files[i].size;
  }
  if (order.empty()) return missing;
  if (const std::int64_t free = free_bytes_at(cache.folder()); bytes > free)
    throw Error(ExitCode::kIo,
                name.text() + " needs " + std::to_string(bytes) + " bytes more in the cache, but only " +
                    std::to_string(free) + " are free at '" + escaped(root_) +
                    "'; HF_HUB_CACHE may name another place",
                root_);

  // The largest first: the last file to end decides how long it takes.
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return files[a].size > files[b].size; });
  context.observer.begin(name.text(), bytes);
  connections_->for_each(order.size(), [&](std::size_t i, HttpSession& session) {
    download_blob(session, context, cache, remote_blob(context, name, commit, files[order[i]]));
  });
  context.observer.end();
  return missing;
}

HubSnapshot Hub::fetch(const HubName& name, HubPart part) const {
  const HubContext context = connections_->context();
  const HubCache cache(root_, name.repository);
  HubSnapshot snapshot;
  std::vector<HubFile> listed;
  connections_->with_session([&](HttpSession& session) {
    snapshot.commit = resolve_commit(session, context, name);
    listed = list_files(session, context, name, snapshot.commit);
  });
  snapshot.folder = cache.snapshot(snapshot.commit);
  const WeightChoice found = weight_files(names_of(listed));
  std::vector<HubFile> wanted = small_files(listed, found.index);
  if (std::none_of(wanted.begin(), wanted.end(),
                   [](const HubFile& file) { return is_config(file) || file.path == "adapter_config.json"; }))
    throw Error(ExitCode::kNotFound, name.text() + " is no model for transformers: it holds no config.json");
  if (found.index.empty() && found.files.empty() && part == HubPart::kAll)
    throw Error(
        ExitCode::kUnsupported,
        name.text() + " holds no weights as safetensors or pytorch_model.bin; qtool reads no other format");

  cache.make_folders();
  std::vector<bool> fetched = download(name, snapshot.commit, wanted);
  const std::vector<std::string> weights =
      found.index.empty() ? found.files
                          : shards_of(cache.path_of(snapshot.commit,
                                                    files_named(listed, {found.index}, name.text()).front()));
  snapshot.weights = files_named(listed, weights, name.text());
  if (part == HubPart::kAll) {
    const std::vector<bool> more = download(name, snapshot.commit, snapshot.weights);
    wanted.insert(wanted.end(), snapshot.weights.begin(), snapshot.weights.end());
    fetched.insert(fetched.end(), more.begin(), more.end());
    snapshot.weights.clear();
  }
  for (const bool config : {false, true})
    for (const HubFile& file : wanted)
      if (is_config(file) == config) cache.link(snapshot.commit, file);
  cache.check_links(snapshot.commit);
  cache.write_ref(name.revision, snapshot.commit);
  for (std::size_t i = 0; i < wanted.size(); ++i) snapshot.files.push_back({wanted[i], fetched[i]});
  return snapshot;
}

RemoteFiles Hub::remote_weights(const HubName& name, const HubSnapshot& snapshot) const {
  RemoteFiles files;
  for (const HubFile& file : snapshot.weights)
    if (!HubCache(root_, name.repository).shows(snapshot.commit, file))
      files[file.path] = std::make_shared<RemoteFile>(
          connections_, remote_blob(connections_->context(), name, snapshot.commit, file));
  return files;
}

}  // namespace qtool
