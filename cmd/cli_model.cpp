// MODEL -> a folder on this machine.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <optional>

#include "cmd/cli.h"
#include "formats/file.h"

namespace qtool {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> environment(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::optional<std::string>(value) : std::nullopt;
}

// Where huggingface_hub keeps what it has downloaded.
std::string hub_cache() {
  if (const auto cache = environment("HF_HUB_CACHE")) return *cache;
  if (const auto home = environment("HF_HOME")) return *home + "/hub";
  if (const auto cache = environment("XDG_CACHE_HOME")) return *cache + "/huggingface/hub";
  return environment("HOME").value_or("/root") + "/.cache/huggingface/hub";
}

struct HubName {
  std::string organisation;
  std::string name;
  std::string revision;
};

// "org/name[@revision]", as the Hub allows it: letters, digits, '-', '_', '.', not beginning or ending with
// '.' or '-'.
std::optional<HubName> hub_name_of(const std::string& text, const std::string& revision) {
  const std::size_t at = text.find('@');
  const std::string repository = text.substr(0, at);
  const std::size_t slash = repository.find('/');
  if (slash == std::string::npos) return std::nullopt;
  HubName hub{repository.substr(0, slash), repository.substr(slash + 1), revision};
  for (const std::string& part : {hub.organisation, hub.name}) {
    const auto letter = [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
    };
    const auto edge = [](char c) { return c == '.' || c == '-'; };
    if (part.empty() || !std::all_of(part.begin(), part.end(), letter) || edge(part.front()) ||
        edge(part.back()) || part.find("..") != std::string::npos)
      return std::nullopt;
  }
  if (at != std::string::npos) {
    if (!revision.empty() && revision != text.substr(at + 1))
      throw Error(ExitCode::kUsage,
                  "'" + escaped(text) + "' and --revision " + escaped(revision) + " disagree");
    hub.revision = text.substr(at + 1);
  }
  if (hub.revision.empty()) hub.revision = "main";
  return hub;
}

// models--ORG--NAME/refs/REVISION holds a commit, snapshots/COMMIT the files.
std::string cached_folder(const HubName& hub) {
  const std::string cache = hub_cache();
  const std::string repository = cache + "/models--" + hub.organisation + "--" + hub.name;
  const std::string name = hub.organisation + "/" + hub.name;
  if (hub.revision.find("..") != std::string::npos || hub.revision.starts_with('/'))
    throw Error(ExitCode::kUsage, "'" + escaped(hub.revision) + "' is no revision of a Hub model");
  std::string commit = hub.revision;
  const std::string ref = repository + "/refs/" + hub.revision;
  if (fs::is_regular_file(ref)) {
    commit = read_file(ref, 4096);
    while (!commit.empty() && std::isspace(static_cast<unsigned char>(commit.back())) != 0) commit.pop_back();
    const auto hex = [](unsigned char c) { return std::isxdigit(c) != 0; };
    if (commit.empty() || !std::all_of(commit.begin(), commit.end(), hex))
      throw Error(ExitCode::kMalformed, ref + " must hold a commit; remove it and download the model again",
                  ref);
  }
  const std::string snapshot = repository + "/snapshots/" + commit;
  if (is_directory(snapshot)) return snapshot;
  const bool other_revision = is_directory(repository);
  throw Error(
      ExitCode::kNotFound,
      name +
          (other_revision ? " is in the Hugging Face cache, but not its revision " + escaped(hub.revision)
                          : " is neither a folder here nor in the Hugging Face cache (" + cache + ")") +
          "; this version of qtool does not download: fetch it with 'hf download " + name +
          (hub.revision == "main" ? "" : " --revision " + escaped(hub.revision)) + "' and run this again",
      repository);
}

// Beside the installed program, else (in a build tree) in the source tree it was built from.
std::string demo_folder() {
  std::error_code failure;
  const fs::path program = fs::read_symlink("/proc/self/exe", failure);
  const std::string installed = (program.parent_path().parent_path() / "share/qtool/demo").string();
  if (is_directory(installed)) return installed;
  if (is_directory(QTOOL_SOURCE_DEMO)) return QTOOL_SOURCE_DEMO;
  throw Error(
      ExitCode::kNotFound,
      "no model was named and the demo model is not at " + installed + "; name a folder, or set QTOOL_MODEL",
      installed);
}

}  // namespace

std::string model_folder(const CommonOptions& common) {
  const std::string& model = common.model;
  if (model.empty()) return demo_folder();
  if (is_directory(model)) return model;
  const std::string shown = escaped(model);
  if (exists(model)) {
    const fs::path file(model);
    if (file.extension() == ".safetensors") return file.has_parent_path() ? file.parent_path().string() : ".";
    throw Error(ExitCode::kUsage, shown + " is a file; MODEL is a folder, a .safetensors file or a Hub name",
                model);
  }
  if (const auto hub = hub_name_of(model, common.revision)) return cached_folder(*hub);
  throw Error(ExitCode::kNotFound,
              shown + " does not exist; MODEL is a folder, a .safetensors file or a Hub name (org/name)",
              model);
}

}  // namespace qtool
