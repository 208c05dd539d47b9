// qtool pull: a Hub model into the cache.
#include <chrono>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "cmd/cli_hub.h"

namespace qtool {
namespace {

HubName name_of(const CommonOptions& common) {
  if (common.model.empty())
    throw Error(ExitCode::kUsage, "pull what? name a model of the Hub: qtool pull org/name[@revision]");
  if (const auto name = hub_name_of(common.model, common.revision)) return *name;
  throw Error(ExitCode::kUsage,
              "'" + escaped(common.model) + "' is no name of a Hub model; that is org/name[@revision]");
}

int pull(const CommonOptions& common) {
  const HubName name = name_of(common);
  if (is_offline(common))  // nothing can be fetched, but what is there can be named
    return print_out(hub_folder(common, name, HubPart::kAll) + "\n"), 0;
  const auto start = std::chrono::steady_clock::now();
  const HubSnapshot snapshot = make_hub(common).fetch(name, HubPart::kAll);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

  Json files = Json::array();
  std::int64_t bytes = 0, downloaded = 0;
  for (const auto& [file, fetched] : snapshot.files) {
    files.push_back(
        {{"path", file.path}, {"bytes", file.size}, {"digest", file.etag}, {"downloaded", fetched}});
    bytes += file.size;
    downloaded += fetched ? file.size : 0;
  }
  spdlog::info("{}: {} files, {}; {} downloaded in {:.1f} s", name.text(), snapshot.files.size(),
               human_bytes(bytes), human_bytes(downloaded), seconds.count());
  if (!common.json) return print_out(snapshot.folder + "\n"), 0;
  print_json({{"schema", "qtool.pull/1"},
              {"model", name.repository},
              {"revision", name.revision},
              {"commit", snapshot.commit},
              {"folder", snapshot.folder},
              {"files", files},
              {"bytes", bytes},
              {"downloaded_bytes", downloaded},
              {"seconds", seconds.count()}});
  return 0;
}

}  // namespace

std::function<int()> declare_pull(CLI::App& app, const CommonOptions& common) {
  add_help(
      app,
      {"Prints the folder. Config, tokenizer, chat templates and weights (safetensors, else "
       "pytorch_model.bin) go "
       "to the Hugging Face cache, where huggingface_hub and transformers find them, and theirs are found "
       "here. "
       "A download that was interrupted goes on where it ended; every file is checked against its digest "
       "(else "
       "exit 9). Other commands use a model that is in the cache as it is; pull asks the Hub whether there "
       "is a "
       "newer one.",
       "Environment: HF_HOME HF_HUB_CACHE HF_TOKEN HF_TOKEN_PATH HF_ENDPOINT HF_HUB_OFFLINE "
       "HF_HUB_DOWNLOAD_TIMEOUT, https_proxy no_proxy, REQUESTS_CA_BUNDLE CURL_CA_BUNDLE SSL_CERT_FILE."},
      {"qtool pull org/name", "qtool pull org/name@v1.0 --json"});
  return [&common] { return pull(common); };
}

}  // namespace qtool
