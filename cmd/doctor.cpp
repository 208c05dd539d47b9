// qtool doctor: what this machine offers qtool, what is missing, and what to do about it.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sys/statvfs.h>
#include <thread>
#include <unistd.h>

#include "cmd/cli.h"
#include "cmd/gpu_driver.h"
#include "cmd/table.h"
#include "core/cpu/cpu_backend.h"
#include "core/machine.h"
#include "cuda/cuda_backend.h"
#include "formats/file.h"
#include "formats/hub/settings.h"

namespace qtool {
namespace {

namespace fs = std::filesystem;

// One remark. kOk: no failure, but worth knowing; else something that qtool needs is broken.
struct Finding {
  ExitCode code;
  std::string message;
  std::string remedy;  // what to do; empty for nothing
};

// What was found out, as facts for people and as JSON; a part adds to all three.
struct Examination {
  Table facts{{{""}, {""}}};
  Json document = {{"schema", "qtool.doctor/1"}};
  std::vector<Finding> findings;

  void fact(const std::string& name, const std::string& value) { facts.add({name, escaped(value)}); }
  void note(const std::string& message, const std::string& remedy) {
    findings.push_back({ExitCode::kOk, message, remedy});
  }
  void broken(ExitCode code, const std::string& message, const std::string& remedy) {
    findings.push_back({code, message, remedy});
  }
};

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// The value of the first line "key : value" of /proc/cpuinfo.
std::string cpuinfo(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key) && line.find(": ") != std::string::npos)
      return line.substr(line.find(": ") + 2);
  return "";
}

// Instructions that kernels use, of those that the kernel says the processor has.
std::vector<std::string> instruction_sets() {
  static constexpr std::string_view kUsed[] = {"avx2",        "fma",      "f16c",     "avx512f",
                                               "avx512bw",    "avx512vl", "avx512dq", "avx512_vnni",
                                               "avx512_bf16", "amx_tile", "amx_bf16"};
  std::istringstream flags(cpuinfo("flags"));
  std::vector<std::string> sets;
  for (std::string flag; flags >> flag;)
    if (std::find(std::begin(kUsed), std::end(kUsed), flag) != std::end(kUsed)) sets.push_back(flag);
  return sets;
}

void examine_cpu(const CommonOptions& common, Examination& found) {
  const std::vector<std::string> sets = instruction_sets();
  const unsigned processors = std::max(1u, std::thread::hardware_concurrency());
  const std::optional<int> quota = cgroup_cpus();
  const int threads = thread_count(common);
  found.fact("processor", cpuinfo("model name") + ", " + std::to_string(processors) + " to run on" +
                              (quota ? ", quota of " + std::to_string(*quota) : ""));
  found.fact("instructions", sets.empty() ? "none that qtool has kernels for" : joined(sets));
  std::string kernels;
  try {
    kernels = make_cpu_backend(threads)->name();
    found.fact("kernels", kernels);
  } catch (const Error& error) {
    found.fact("kernels", "none");
    found.broken(error.code(), error.what(), "unset QTOOL_CPU");
  }
  if (sets.empty())
    found.note("this processor has no AVX2, so qtool runs its portable kernels, which are slow",
               "use a GPU or a processor of 2013 or later");
  if (quota && *quota < static_cast<int>(processors))
    found.note("the control group grants the time of " + std::to_string(*quota) + " of " +
                   std::to_string(processors) + " processors",
               "");
  found.document["cpu"] = {
      {"model", cpuinfo("model name")}, {"instructions", sets},         {"kernels", kernels},
      {"processors", processors},       {"quota_cpus", or_null(quota)}, {"threads", threads}};
}

void examine_memory(Examination& found) {
  const std::optional<std::int64_t> limit = cgroup_memory();
  const std::int64_t free = available_memory();
  found.fact("memory", human_bytes(machine_memory()) + ", " + human_bytes(free) + " free" +
                           (limit ? ", limit of the control group " + human_bytes(*limit) : ""));
  found.document["memory"] = {
      {"bytes", machine_memory()}, {"free_bytes", free}, {"limit_bytes", or_null(limit)}};
  constexpr std::int64_t kLittle = std::int64_t{256} << 20;
  if (free < kLittle)
    found.note("only " + human_bytes(free) + " of memory are free",
               "raise the limit or end other programs; quantize has --max-ram");
}

void examine_gpu(Examination& found) {
  const std::string architectures = QTOOL_GPU_ARCHITECTURES;  // empty: built without CUDA
  const bool built = !architectures.empty();
  const GpuDriver driver = gpu_driver();
  const std::optional<std::string> cublaslt = cublaslt_library();

  Json devices = Json::array();
  found.fact("GPU backend", built ? "compiled for " + architectures : "not compiled in");
  found.fact("GPU driver", driver.cuda_version ? "runs CUDA up to " + *driver.cuda_version +
                                                     (driver.failure.empty() ? "" : ", but " + driver.failure)
                                               : "none");
  found.fact("cuBLASLt", cublaslt.value_or("none"));
  for (std::size_t i = 0; i < driver.devices.size(); ++i) {
    const GpuDevice& device = driver.devices[i];
    const bool usable = built && runs_on(architectures, device.capability);
    const std::string capability =
        std::to_string(device.capability / 10) + "." + std::to_string(device.capability % 10);
    found.fact("cuda:" + std::to_string(i), device.name + ", compute capability " + capability + ", " +
                                                human_bytes(device.memory_bytes) + ", " + device.uuid);
    devices.push_back({{"name", escaped(device.name)},
                       {"uuid", device.uuid},
                       {"compute_capability", capability},
                       {"memory_bytes", device.memory_bytes},
                       {"usable", usable}});
    if (built && !usable)
      found.broken(ExitCode::kDevice,
                   "cuda:" + std::to_string(i) + " has compute capability " + capability +
                       ", for which this qtool was not compiled (" + architectures + ")",
                   "build with -DQTOOL_CUDA_ARCHITECTURES=" + std::to_string(device.capability) +
                       ", or use --device cpu");
  }
  found.document["gpu"] = {{"compiled", built},
                           {"architectures", architectures},
                           {"driver_cuda", or_null(driver.cuda_version)},
                           {"cublaslt", or_null(cublaslt)},
                           {"devices", devices}};

  if (!driver.failure.empty())
    found.broken(ExitCode::kDevice, "NVIDIA's driver does not start: " + driver.failure,
                 "look whether nvidia-smi works, and at CUDA_VISIBLE_DEVICES");
  if (!built && !driver.devices.empty())
    found.note("there is a GPU, but this qtool was built without CUDA",
               "install the package qtool-cuda, or build with nvcc on the PATH");
  if (built && driver.devices.empty() && driver.failure.empty())
    found.note(driver.cuda_version ? "the driver shows no GPU"
                                   : "there is no NVIDIA driver, so qtool runs on the CPU",
               driver.cuda_version ? "look at CUDA_VISIBLE_DEVICES" : "");
  if (built && !driver.devices.empty() && !cublaslt)
    found.note("cuBLASLt is not found, so products with 16-bit matrices on the GPU are slow or not possible",
               "install CUDA's libcublas, or put its folder into LD_LIBRARY_PATH");
  if (built && !driver.devices.empty() && cuda_device_count() == 0)
    found.broken(ExitCode::kDevice, cuda_absence(), "update the driver");
}

// What exists of a path: where the folders that it lacks would be made.
fs::path existing(fs::path path) {
  while (!path.empty() && path != path.root_path() && !exists(path.string())) path = path.parent_path();
  return path.empty() ? fs::path(".") : path;
}

void examine_cache(Examination& found) {
  const std::string cache = hub_settings().cache;
  const bool exists = is_directory(cache);
  const fs::path place = existing(cache);
  const bool writable = is_directory(place) && access(place.c_str(), W_OK | X_OK) == 0;
  struct statvfs disk {};
  const std::int64_t free = statvfs(place.c_str(), &disk) == 0 ? static_cast<std::int64_t>(disk.f_bavail) *
                                                                     static_cast<std::int64_t>(disk.f_frsize)
                                                               : 0;
  std::size_t models = 0;
  std::error_code failure;
  for (fs::directory_iterator entry(cache, failure), end; entry != end; entry.increment(failure))
    if (entry->path().filename().string().starts_with("models--")) ++models;

  found.fact("Hub cache", cache +
                              (exists ? ", " + std::to_string(models) + (models == 1 ? " model" : " models")
                                      : ", not made yet") +
                              (writable ? "" : ", not writable") + ", " + human_bytes(free) + " free");
  found.document["cache"] = {{"folder", escaped(cache)}, {"exists", exists},
                             {"writable", writable},     {"models", models},
                             {"free_bytes", free},       {"offline", hub_settings().offline}};
  if (!writable)
    found.broken(
        ExitCode::kIo,
        "models of the Hub cannot be kept: " + escaped(place.string()) + " is no folder that can be written",
        "set HF_HOME or HF_HUB_CACHE to a folder that is");
  constexpr std::int64_t kLittle = std::int64_t{1} << 30;
  if (free < kLittle)
    found.note("only " + human_bytes(free) + " are free where models of the Hub are kept",
               "make room, or set HF_HUB_CACHE to a larger disk");
}

void examine_demo(Examination& found) {
  try {
    const std::string folder = model_folder(CommonOptions{});
    found.fact("demo model", folder);
    found.document["demo"] = escaped(folder);
  } catch (const Error& error) {
    found.fact("demo model", "none");
    found.document["demo"] = Json();
    found.broken(error.code(), "the demo model is missing",
                 "install qtool again (cmake --install, or its package)");
  }
}

std::string text_of(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings)
    text += std::string(finding.code == ExitCode::kOk ? "note: " : "broken: ") + finding.message +
            (finding.remedy.empty() ? "" : "; " + finding.remedy) + "\n";
  return text.empty() ? "nothing is missing\n" : text;
}

int doctor(const CommonOptions& common) {
  Examination found;
  found.document["version"] = QTOOL_VERSION;
  examine_cpu(common, found);
  examine_memory(found);
  examine_gpu(found);
  examine_cache(found);
  examine_demo(found);

  Json findings = Json::array();
  for (const Finding& finding : found.findings)
    findings.push_back({{"kind", finding.code == ExitCode::kOk ? "note" : kind_of(finding.code)},
                        {"message", escaped(finding.message)},
                        {"remedy", finding.remedy.empty() ? Json() : Json(finding.remedy)}});
  const auto broken = std::find_if(found.findings.begin(), found.findings.end(),
                                   [](const Finding& finding) { return finding.code != ExitCode::kOk; });
  found.document["ok"] = broken == found.findings.end();
  found.document["findings"] = findings;
  if (common.json)
    print_json(found.document);
  else
    print_out(version_line() + found.facts.text(2) + "\n" + text_of(found.findings));
  return static_cast<int>(broken == found.findings.end() ? ExitCode::kOk : broken->code);
}

}  // namespace

std::function<int()> declare_doctor(CLI::App& app, const CommonOptions& common) {
  add_help(
      app,
      {"Exit code 0 unless something that qtool needs is broken: 2 for a variable it cannot follow, 3 "
       "without the "
       "demo model, 7 for a GPU that this qtool cannot use, 10 for a cache folder that cannot be written."},
      {"qtool doctor", "qtool doctor --json | jq .findings"});
  return [&common] { return doctor(common); };
}

}  // namespace qtool
