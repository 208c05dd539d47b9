// qtool inspect: which view was asked for.
#include "cmd/inspect.h"

namespace qtool {
namespace {

struct InspectOptions {
  std::string glob;
  std::string tensor;
  std::string other;
  std::string svg;
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
  if (!options.svg.empty() && views > (options.histogram ? 1 : 0))
    throw Error(ExitCode::kUsage,
                "--svg draws the model at a glance, or with --tensor NAME --hist one tensor");

  const bool reads_all = options.verify || options.hash || !options.other.empty();
  const Checkpoint checkpoint = reads_all ? Checkpoint::open(model_folder(common)) : open_headers(common);
  if (list) {
    print_tensors(checkpoint, options.glob, common);
  } else if (!options.tensor.empty()) {
    print_tensor(checkpoint, options.tensor, options.stats, options.histogram, options.svg, common);
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
    print_summary(checkpoint, options.svg, common);
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
      ->type_name("MODEL");
  option(app, "--svg", options->svg, "also draw it: sizes by class and tensor, or the histogram of --hist")
      ->type_name("FILE");
  add_help(app, {},
           {"qtool inspect org/name", "qtool inspect ./model --svg sizes.svg",
            "qtool inspect ./model --verify", "qtool inspect ./model --tensors 'model.layers.0.*'",
            "qtool inspect ./model --tensor model.layers.0.mlp.up_proj.weight --stats --hist",
            "qtool inspect ./model --hash --json > hashes.json", "qtool inspect ./model --diff ./other"});
  return [&common, options, list] { return inspect(common, *options, list->count() > 0); };
}

}  // namespace qtool
