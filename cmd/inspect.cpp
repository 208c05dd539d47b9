// qtool inspect: which view was asked for.
#include "cmd/inspect.h"

namespace qtool {
namespace {

struct InspectOptions {
  std::string glob;
  std::string tensor;
  std::string other;
  bool stats = false;
  bool histogram = false;
  bool verify = false;
  bool hash = false;
};

int inspect(const CommonOptions& common, const InspectOptions& options, bool list) {
  const int views = list + !options.tensor.empty() + !options.other.empty() + options.verify + options.hash;
  if (views > 1)
    throw Error(ExitCode::kUsage,
                "--tensors, --tensor, --verify, --hash and --diff are views of their own; ask for one");
  if ((options.stats || options.histogram) && options.tensor.empty())
    throw Error(ExitCode::kUsage, "--stats and --hist need --tensor NAME");

  const Checkpoint checkpoint = Checkpoint::open(model_folder(common));
  if (list) {
    print_tensors(checkpoint, options.glob, common);
  } else if (!options.tensor.empty()) {
    print_tensor(checkpoint, options.tensor, options.stats, options.histogram, common);
  } else if (options.verify) {
    print_verification(checkpoint, common);
  } else if (options.hash) {
    print_hashes(checkpoint, common);
  } else if (!options.other.empty()) {
    CommonOptions second = common;
    second.model = options.other;
    const bool differ = print_difference(checkpoint, Checkpoint::open(model_folder(second)), common);
    return static_cast<int>(differ ? ExitCode::kVerification : ExitCode::kOk);
  } else {
    print_summary(checkpoint, common);
  }
  return 0;
}

}  // namespace

std::function<int()> declare_inspect(CLI::App& app, const CommonOptions& common) {
  const auto options = std::make_shared<InspectOptions>();
  CLI::Option* const list =
      option(app, "--tensors", options->glob, "list stored tensors: all, or those that match GLOB (* and ?)")
          ->expected(0, 1)
          ->type_name("[GLOB]");
  option(app, "--tensor", options->tensor, "one tensor")->type_name("NAME");
  flag(app, "--stats", options->stats, "with --tensor: least, greatest, mean, rms, absmax, zeros, NaN, Inf");
  flag(app, "--hist", options->histogram,
       "with --tensor: how values are spread; of quantized weights, codes");
  flag(
      app, "--verify", options->verify,
      "read everything: files agree, quantized weights are whole (else exit 4), no NaN or Inf (else exit 9)");
  flag(app, "--hash", options->hash, "SHA-256 of each tensor, and of all whatever the shards");
  option(app, "--diff", options->other, "compare with another checkpoint; exit 9 if they differ")
      ->type_name("OTHER");
  return [&common, options, list] { return inspect(common, *options, list->count() > 0); };
}

}  // namespace qtool
