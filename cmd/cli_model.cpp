// MODEL -> a folder on this machine.
#include <filesystem>
#include <optional>
#include <sys/auxv.h>

#include "cmd/cli_hub.h"
#include "formats/file.h"

namespace qtool {
namespace {

namespace fs = std::filesystem;

// This program's file. A bare chroot has no /proc: there it is the name it was started by, which the kernel
// keeps.
fs::path program_file() {
  std::error_code failure;
  fs::path linked = fs::read_symlink("/proc/self/exe", failure);
  if (!failure) return linked;
  const auto* const started = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  return started == nullptr ? fs::path() : fs::weakly_canonical(started, failure);
}

// Beside the installed program, else (in a build tree) in the source tree it was built from.
std::string demo_folder() {
  std::string installed = (program_file().parent_path().parent_path() / "share/qtool/demo").string();
  if (is_directory(installed)) return installed;
  if (is_directory(QTOOL_SOURCE_DEMO)) return QTOOL_SOURCE_DEMO;
  throw Error(
      ExitCode::kNotFound,
      "no model was named and the demo model is not at " + installed + "; name a folder, or set QTOOL_MODEL",
      installed);
}

// A folder on this machine, or else the name of a Hub model.
struct Place {
  std::string folder;
  std::optional<HubName> hub;
};

Place place_of(const CommonOptions& common) {
  const std::string& model = common.model;
  if (model.empty()) return {demo_folder(), {}};
  if (is_directory(model)) return {model, {}};
  const std::string shown = escaped(model);
  if (exists(model)) {
    const fs::path file(model);
    if (file.extension() == ".safetensors")
      return {file.has_parent_path() ? file.parent_path().string() : ".", {}};
    throw Error(ExitCode::kUsage, shown + " is a file; MODEL is a folder, a .safetensors file or a Hub name",
                model);
  }
  if (const auto hub = hub_name_of(model, common.revision)) return {"", hub};
  throw Error(ExitCode::kNotFound,
              shown + " does not exist; MODEL is a folder, a .safetensors file or a Hub name (org/name)",
              model);
}

}  // namespace

std::string model_folder(const CommonOptions& common) {
  const Place place = place_of(common);
  return place.hub ? hub_folder(common, *place.hub, HubPart::kAll) : place.folder;
}

std::string small_files_folder(const CommonOptions& common) {
  const Place place = place_of(common);
  return place.hub ? hub_folder(common, *place.hub, HubPart::kWithoutWeights) : place.folder;
}

Checkpoint open_headers(const CommonOptions& common) {
  const Place place = place_of(common);
  return place.hub ? open_hub_headers(common, *place.hub) : Checkpoint::open(place.folder);
}

}  // namespace qtool
