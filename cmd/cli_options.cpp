// Options that commands share, and how their values are read.
#include <charconv>
#include <cmath>

#include "cmd/cli_outline.h"

namespace qtool {
namespace {

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

}  // namespace

CLI::Option* with_twin(CLI::Option* option) {
  const auto& names = option->get_lnames();
  std::string twin = "QTOOL_";
  for (const char c : names.empty() ? option->get_name() : names.front()) twin += c == '-' ? '_' : upper(c);
  return option->envname(twin);
}

CLI::Option* flag(CLI::App& app, const std::string& names, bool& value, const std::string& help) {
  return with_twin(app.add_flag(names, value, help));
}

CLI::Option* list_option(CLI::App& app, const std::string& names, std::vector<std::string>& value,
                         const std::string& help) {
  return option(app, names, value, help)->delimiter(',')->allow_extra_args(false);
}

void begin_options(CLI::App& app, const std::string& program, const Subcommand& command,
                   CommonOptions& common) {
  app.name(program);
  app.description(program + ": " + std::string(command.summary));
  app.formatter(help_formatter());
  if (command.takes == Takes::kNoModel) return;
  option(app, "model", common.model,
         "folder, .safetensors file in it, or Hub name org/name[@revision]; left out: $QTOOL_MODEL, else "
         "the demo model")
      ->type_name("MODEL")
      ->check([](const std::string& name) {  // a script's empty variable shall not mean the demo
        return std::string(name.empty() ? "the name is empty" : "");
      });
}

void add_common_options(CLI::App& app, CommonOptions& common) {
  app.option_defaults()->group(std::string(kCommonGroup));
  option(app, "--device", common.device, "what to run on; cuda:1 is the second GPU")
      ->type_name("auto|cpu|cuda")
      ->capture_default_str();
  option(app, "--threads", common.threads, "CPU threads; 0: what $OMP_NUM_THREADS or the machine gives")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  option(app, "--revision", common.revision, "branch, tag or commit of a Hub model");
  flag(app, "--offline", common.offline, "never use the network");
  flag(app, "--json", common.json, "one JSON object on stdout; errors as JSON on stderr");
  flag(app, "-q,--quiet", common.quiet, "errors only on stderr");
  flag(app, "-v,--verbose", common.verbose, "more on stderr");
  option(app, "--log-level", common.log_level, "least of what is told on stderr")
      ->type_name("trace|debug|info|warning|error|off");
  option(app, "--log-file", common.log_file, "append what is logged to this file too")->type_name("FILE");
  option(app, "--color", common.color, "colours on stderr")
      ->type_name("auto|always|never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
  app.set_help_flag("-h,--help", "print this and exit");
  app.set_version_flag("--version", version_line(), "print the version and exit");
}

void add_scheme_options(CLI::App& app, SchemeOptions& scheme) {
  const auto asks = [&scheme](CLI::Option* option) {
    return option->each([&scheme](const std::string&) { scheme.any_given = true; });
  };
  asks(option(app, "--bits", scheme.bits, "of a weight; 8 is LLM.int8, 16 is not quantized")
           ->type_name("4|8|16")
           ->capture_default_str());
  asks(option(app, "--quant-type", scheme.quant_type, "code of 4-bit weights")
           ->type_name("nf4|fp4")
           ->capture_default_str());
  asks(flag(app, "--double-quant", scheme.double_quant, "quantize the 4-bit statistics to 8 bits too"));
  asks(option(app, "--block-size", scheme.block_size,
              "values per 4-bit statistic: 32 to 4096; transformers reads 64 only")
           ->capture_default_str());
  asks(option(app, "--int8-threshold", scheme.int8_threshold,
              "LLM.int8: inputs from here on are multiplied in 16 bits; 0 switches that off")
           ->capture_default_str());
  option(app, "--compute-dtype", scheme.compute_dtype, "type of products")
      ->type_name("bfloat16|float16|float32");
  asks(option(app, "--quant-storage", scheme.quant_storage, "dtype under which packed bytes are filed")
           ->type_name("uint8|bfloat16|float16|float32")
           ->capture_default_str());
  list_option(app, "--skip-modules", scheme.skip_modules,
              "these stay unquantized, besides the automatic ones: leaves or full dotted names")
      ->type_name("NAME,...");
  asks(flag(
      app, "--all-linears", scheme.all_linears,
      "quantize experts and Falcon's layers too, which today's transformers leaves (and loads) in 16 bits"));
}

QuantSpec quant_spec_of(const SchemeOptions& scheme) {
  const auto refuse = [](const std::string& sentence) { throw Error(ExitCode::kUsage, sentence); };
  QuantSpec spec;
  if (scheme.bits != 4 && scheme.bits != 8 && scheme.bits != 16)
    refuse("--bits must be 4, 8 or 16, is " + std::to_string(scheme.bits));
  spec.method = scheme.bits == 4   ? QuantMethod::kBlock4
                : scheme.bits == 8 ? QuantMethod::kInt8
                                   : QuantMethod::kNone;
  if (scheme.double_quant && scheme.bits != 4)
    refuse("--double-quant is for 4-bit weights; with --bits " + std::to_string(scheme.bits) +
           " there are no block statistics to quantize");
  if (scheme.quant_type != "nf4" && scheme.quant_type != "fp4")
    refuse("--quant-type must be nf4 or fp4, is '" + escaped(scheme.quant_type) + "'");
  spec.code = scheme.quant_type == "nf4" ? Code4::kNf4 : Code4::kFp4;
  spec.nested = scheme.double_quant;

  bool known = false;
  std::string sizes;
  for (const int size : kBlockSizes4) {
    known = known || size == scheme.block_size;
    sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  }
  if (!known) refuse("--block-size must be one of " + sizes + ", is " + std::to_string(scheme.block_size));
  spec.block_size = scheme.block_size;

  if (!std::isfinite(scheme.int8_threshold) || scheme.int8_threshold < 0)
    refuse("--int8-threshold must be a number of 0 or more");
  spec.int8_threshold = static_cast<float>(scheme.int8_threshold);
  if (!scheme.compute_dtype.empty())
    spec.compute_dtype = parse_float_dtype(scheme.compute_dtype, "--compute-dtype");
  spec.storage = scheme.quant_storage == "uint8" ? DType::kU8
                                                 : parse_float_dtype(scheme.quant_storage, "--quant-storage");
  return spec;
}

DType parse_float_dtype(std::string_view text, std::string_view option_name) {
  if (text == "bfloat16" || text == "bf16") return DType::kBF16;
  if (text == "float16" || text == "fp16") return DType::kF16;
  if (text == "float32" || text == "fp32") return DType::kF32;
  throw Error(ExitCode::kUsage, std::string(option_name) + " must be bfloat16, float16 or float32" +
                                    (option_name == "--quant-storage" ? " or uint8" : "") + ", is '" +
                                    escaped(text) + "'");
}

std::int64_t parse_bytes(std::string_view text, std::string_view option_name) {
  struct Unit {
    std::string_view name;
    double bytes;
  };
  static constexpr Unit kUnits[] = {
      {"", 1},      {"B", 1},        {"KB", 1e3},        {"MB", 1e6},           {"GB", 1e9},
      {"TB", 1e12}, {"KIB", 1024.0}, {"MIB", 1048576.0}, {"GIB", 1073741824.0}, {"TIB", 1099511627776.0}};
  const auto refuse = [&]() -> std::int64_t {
    throw Error(ExitCode::kUsage, std::string(option_name) +
                                      " must be a size such as 5GB, 60KB, 4GiB or 123, is '" + escaped(text) +
                                      "'");
  };
  double number = 0;
  const auto [end, failure] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (failure != std::errc() || !(number >= 0)) return refuse();
  std::string_view rest(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  std::string unit;
  for (const char c : rest) unit += upper(c);
  for (const Unit& row : kUnits)
    if (row.name == unit) {
      const double bytes = number * row.bytes;  // exact below 2^53
      return bytes < 9e18 ? static_cast<std::int64_t>(bytes) : refuse();
    }
  return refuse();
}

}  // namespace qtool
