// qtool bench: how fast a model prefills and decodes on a device, beside what
// the device can do at all.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cmd/cli.h"
#include "cmd/load_model.h"
#include "cmd/random_weights.h"
#include "cmd/table.h"
#include "cuda/cuda_backend.h"

namespace qtool {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kDecodeSteps = 48;       // measured, after kWarmSteps
constexpr int kWarmSteps = 4;          // the first of a form allocates, the second is recorded
constexpr int kPrefillRuns = 5;        // the median counts, after one to warm up
constexpr int kKernelCalls = 32;       // recorded together
constexpr int kKernelPasses = 4;       // timed together: waiting for the device costs a little each time
constexpr double kCacheBytes = 300e6;  // of distinct weights that a kernel's
                                       // calls go through: beyond any cache

struct Options {
  std::string shape;
  bool random_weights = false;
  bool kernels = false;
  std::string prefill = "512,4096";
  std::string batch = "1,8,32,128";
  std::int64_t context = 128;
  RunOptions run;
};

struct Measured {
  std::string what;     // "prefill", "decode", "kernel 4096x4096"
  std::int64_t tokens;  // of a prompt, or sequences of a decode step, or of a product
  double seconds;       // of one pass
  double bytes;         // that it has to read
  double operations;    // two for each multiplication and addition
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<std::int64_t> parse_list(const std::string& text, const char* name) {
  std::vector<std::int64_t> numbers;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, comma - at);
    const bool digits =
        !word.empty() && word.size() < 8 && word.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || std::stoll(word) < 1)
      throw Error(
          ExitCode::kUsage,
          std::string(name) + " must be numbers from 1 on, separated by commas, is '" + escaped(text) + "'");
    numbers.push_back(std::stoll(word));
    at = comma + 1;
  }
  return numbers;
}

// Operations of a token through all linear layers but the head.
double linear_operations(const ModelSpec& spec) {
  const double hidden = static_cast<double>(spec.hidden_size), head = spec.head_dim;
  const double attention = hidden * head * (2.0 * spec.heads + 2.0 * spec.kv_heads);
  return 2.0 * spec.layers * (attention + 3.0 * hidden * static_cast<double>(spec.intermediate_size));
}

double head_operations(const ModelSpec& spec) {
  return 2.0 * static_cast<double>(spec.hidden_size) * static_cast<double>(spec.vocab_size);
}

// Of `queries` tokens that see `positions` each, on average.
double attention_operations(const ModelSpec& spec, double queries, double positions) {
  return 4.0 * spec.layers * spec.heads * spec.head_dim * queries * positions;
}

Measured measure_prefill(Transformer& model, std::int64_t tokens) {
  const ModelSpec& spec = model.spec();
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>((i * 7919 + 13) % static_cast<std::size_t>(spec.vocab_size));
  std::vector<double> seconds;
  for (int run = 0; run <= kPrefillRuns; ++run) {
    const auto start = Clock::now();
    std::int64_t last = 0;
    for (std::int64_t done = 0; done < tokens; done += model.capacity().chunk_tokens) {
      const Segment segment{0, done, std::min(model.capacity().chunk_tokens, tokens - done)};
      model.forward(
          {&segment, 1},
          std::span(ids).subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(segment.tokens)),
          tokens);
      last = segment.tokens - 1;
    }
    std::int32_t token = 0;
    model.greedy({&last, 1}, {&token, 1});
    if (run > 0) seconds.push_back(seconds_since(start));
  }
  std::sort(seconds.begin(), seconds.end());
  const double count = static_cast<double>(tokens);
  return {
      "prefill", tokens, seconds[seconds.size() / 2], static_cast<double>(model.weights_bytes()),
      linear_operations(spec) * count + head_operations(spec) + attention_operations(spec, count, count / 2)};
}

// Every sequence is `context` tokens long when measuring begins; each step
// feeds back the tokens it chose.
Measured measure_decode(Transformer& model, std::int64_t batch, std::int64_t context) {
  const ModelSpec& spec = model.spec();
  const auto size = static_cast<std::size_t>(batch);
  std::vector<Segment> segments(size);
  std::vector<std::int32_t> ids(size, 1), chosen(size);
  std::vector<std::int64_t> rows(size);
  std::iota(rows.begin(), rows.end(), 0);
  Clock::time_point start;
  for (int step = -kWarmSteps; step < kDecodeSteps; ++step) {
    if (step == 0) start = Clock::now();
    for (std::size_t i = 0; i < size; ++i) segments[i] = {static_cast<int>(i), context + step, 1};
    model.forward(segments, ids, 0, Transformer::UpTo::kTokens);
    model.greedy(rows, chosen);
    ids = chosen;
  }
  const double seconds = seconds_since(start) / kDecodeSteps, count = static_cast<double>(batch);
  const double positions = static_cast<double>(context) + kDecodeSteps / 2.0;
  const auto seen = context + kDecodeSteps / 2;
  const double weights = static_cast<double>(model.bytes_per_decode_step(seen));
  const double cache = static_cast<double>(model.kv_cache_bytes()) / model.capacity().sequences /
                       static_cast<double>(model.capacity().context_tokens) * positions;
  return {"decode", batch, seconds, weights + (count - 1) * cache,
          (linear_operations(spec) + head_operations(spec)) * count +
              attention_operations(spec, count, positions)};
}

// One linear layer at several numbers of tokens, over enough copies that no
// cache holds them.
void measure_kernel(Backend& backend, const Shape& shape, const QuantSpec& quant, DType compute,
                    std::vector<Measured>& rows) {
  std::vector<std::unique_ptr<Backend::Linear>> linears;
  double total = 0.0;
  while (total < kCacheBytes || linears.size() < 2) {
    linears.push_back(backend.make_linear(random_weight(shape, compute, quant), std::nullopt, compute));
    total += static_cast<double>(linears.back()->bytes());
  }
  constexpr std::int64_t kMost = 512;
  Weight inputs = random_weight({kMost, shape[1]}, compute, QuantSpec());
  const auto table = backend.make_table(std::move(std::get<DenseWeight>(inputs).values));
  const auto embedded = backend.make_array(kMost, shape[1]), x = backend.make_array(kMost, shape[1]),
             y = backend.make_array(kMost, shape[0]);
  std::vector<std::int32_t> ids(kMost);
  std::iota(ids.begin(), ids.end(), 0);
  backend.embed(*table, ids, *embedded);
  backend.norm(*embedded, {.eps = 1e-5f}, kMost, *x);  // of the type in which a model's norms leave inputs
  const auto sink = backend.make_ids(1);
  const auto wait = [&] {  // for what is computed so far
    std::int32_t id = 0;
    backend.argmax(*y, 1, shape[0], *sink);
    backend.read_ids(*sink, {&id, 1});
  };
  const Segment one{0, 0, 1};
  for (const std::int64_t tokens : {1, 4, 8, 16, 32, 64, 128, 512}) {
    const auto recordings = backend.make_recordings();
    const auto pass = [&] {
      backend.run_step(*recordings, {&one, 1}, {ids.data(), 1}, [&] {
        for (int i = 0; i < kKernelCalls; ++i)
          backend.linear(*x, *linears[static_cast<std::size_t>(i) % linears.size()], tokens, *y);
      });
    };
    std::vector<double> seconds;
    for (int run = 0; run < 8; ++run) {
      wait();
      const auto start = Clock::now();
      for (int i = 0; i < kKernelPasses; ++i) pass();
      wait();
      if (run > 1) seconds.push_back(seconds_since(start) / (kKernelPasses * kKernelCalls));
    }
    std::sort(seconds.begin(), seconds.end());
    rows.push_back(
        {"linear " + std::to_string(shape[0]) + "x" + std::to_string(shape[1]), tokens,
         seconds[seconds.size() / 2], static_cast<double>(linears[0]->bytes()),
         2.0 * static_cast<double>(shape[0]) * static_cast<double>(shape[1]) * static_cast<double>(tokens)});
  }
}

std::string fixed(double value, int digits) {
  std::string text(48, '\0');
  text.resize(static_cast<std::size_t>(std::snprintf(text.data(), text.size(), "%.*f", digits, value)));
  return text;
}

void print(const CommonOptions& common, const std::string& device, const std::string& scheme,
           const std::optional<DeviceCeilings>& ceilings, const std::vector<Measured>& rows) {
  if (common.json) {
    Json document{{"schema", "qtool.bench/1"}, {"device", device}, {"scheme", scheme}};
    if (ceilings)
      document["ceilings"] = {{"read_gb_per_s", ceilings->read_gb_per_s},
                              {"copy_gb_per_s", ceilings->copy_gb_per_s},
                              {"bf16_tflop_per_s", ceilings->bf16_tflop_per_s},
                              {"int8_tops", ceilings->int8_tops}};
    for (const Measured& row : rows)
      document["results"].push_back({{"what", row.what},
                                     {"tokens", row.tokens},
                                     {"seconds", row.seconds},
                                     {"tokens_per_s", static_cast<double>(row.tokens) / row.seconds},
                                     {"gb_per_s", row.bytes / row.seconds * 1e-9},
                                     {"tflop_per_s", row.operations / row.seconds * 1e-12}});
    return print_json(document);
  }
  std::string text = device + ", " + scheme + "\n";
  if (ceilings)
    text += "ceilings measured now: read " + fixed(ceilings->read_gb_per_s, 0) + " GB/s, copy " +
            fixed(ceilings->copy_gb_per_s, 0) + " GB/s, bf16 " + fixed(ceilings->bf16_tflop_per_s, 0) +
            " TFLOP/s, int8 " + fixed(ceilings->int8_tops, 0) + " TOP/s\n";
  Table table({{"what", Align::kLeft},
               {"tokens", Align::kRight},
               {"us", Align::kRight},
               {"tok/s", Align::kRight},
               {"GB/s", Align::kRight},
               {"of read", Align::kRight},
               {"TFLOP/s", Align::kRight},
               {"of bf16", Align::kRight}});
  for (const Measured& row : rows) {
    const double gb = row.bytes / row.seconds * 1e-9, tflop = row.operations / row.seconds * 1e-12;
    const auto share = [&](double value, double of) {
      return ceilings && of > 0 ? fixed(100 * value / of, 1) + " %" : std::string("-");
    };
    table.add({row.what, std::to_string(row.tokens), fixed(row.seconds * 1e6, 1),
               fixed(static_cast<double>(row.tokens) / row.seconds, 1), fixed(gb, 0),
               share(gb, ceilings ? ceilings->read_gb_per_s : 0), fixed(tflop, 1),
               share(tflop, ceilings ? ceilings->bf16_tflop_per_s : 0)});
  }
  print_out(text + table.text());
}

int run(const CommonOptions& common, const Options& options) {
  const std::vector<std::int64_t> prompts = parse_list(options.prefill, "--prefill"),
                                  batches = parse_list(options.batch, "--batch");
  if (options.context < kWarmSteps + 1) throw Error(ExitCode::kUsage, "--context must be at least 5");
  if (!options.shape.empty() && !options.random_weights)
    throw Error(ExitCode::kUsage, "--shape names a shape without weights: add --random-weights");
  const auto backend = make_backend(common);
  std::optional<DeviceCeilings> ceilings;
  if (backend->name().starts_with("cuda")) ceilings = measure_cuda_ceilings();

  Capacity capacity;
  capacity.sequences = static_cast<int>(*std::max_element(batches.begin(), batches.end()));
  std::optional<LoadedModel> loaded;
  std::optional<Transformer> made;
  std::vector<Measured> rows;
  QuantSpec quant;
  std::string scheme;
  Transformer::Options how;

  std::optional<ModelSpec> spec;
  if (options.shape.empty()) {
    loaded.emplace(model_folder(common), options.run);
    spec = loaded->spec();
    scheme = loaded->scheme();
  } else {
    spec = shape_named(options.shape);
    quant = quant_spec_of(options.run.scheme);
    scheme =
        options.shape + " " +
        (quant.method == QuantMethod::kNone ? std::string(info(spec->dtype).torch_name) : scheme_name(quant));
    how.dense_dtype = spec->dtype;
    how.compute_dtype = quant.method == QuantMethod::kBlock4 ? quant.compute_dtype : spec->dtype;
    how.kv_dtype = default_kv_dtype(how.compute_dtype);
  }
  if (options.kernels) {
    if (options.shape.empty()) throw Error(ExitCode::kUsage, "--kernels measures a --shape");
    const std::int64_t hidden = spec->hidden_size, wide = spec->intermediate_size;
    for (const Shape& shape :
         {Shape{hidden, hidden}, Shape{wide, hidden}, Shape{hidden, wide}, Shape{2 * wide, hidden}})
      measure_kernel(*backend, shape, quant, how.compute_dtype, rows);
  }
  // A cache for all sequences at this context, and for one at the longest
  // prompt, whichever is larger: the prompts get a model of their own so that
  // neither pays for the other.
  const auto with_model = [&](const Capacity& wanted, const auto& use) {
    if (loaded) {
      loaded->load(*backend, wanted, common);
      return use(loaded->transformer());
    }
    how.capacity = wanted;
    made.reset();
    const auto source = random_weights(*spec, quant);
    made.emplace(*spec, *backend, *source, how, std::function<void(std::int64_t)>());
    use(*made);
  };
  if (!prompts.empty()) {
    const std::int64_t longest = *std::max_element(prompts.begin(), prompts.end());
    capacity.sequences = std::max(capacity.sequences, 1);
    capacity.context_tokens = std::max(longest, options.context + kDecodeSteps + 1);
    with_model({1, capacity.context_tokens, std::min<std::int64_t>(longest, 4096), 16},
               [&](Transformer& model) {
                 for (const std::int64_t tokens : prompts) rows.push_back(measure_prefill(model, tokens));
               });
  }
  if (!batches.empty()) {
    const std::int64_t most = *std::max_element(batches.begin(), batches.end());
    with_model(
        {static_cast<int>(most), options.context + kDecodeSteps + 1, std::max<std::int64_t>(most, 16), most},
        [&](Transformer& model) {
          for (const std::int64_t batch : batches)
            rows.push_back(measure_decode(model, batch, options.context));
        });
  }
  print(common, backend->name(), scheme, ceilings, rows);
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

std::function<int()> declare_bench(CLI::App& app, const CommonOptions& common) {
  const auto options = std::make_shared<Options>();
  option(app, "--shape", options->shape,
         "a known model's shape instead of a model: llama-2-7b, llama-3.1-8b, "
         "...");
  flag(app, "--random-weights", options->random_weights, "weights for --shape, made up");
  option(app, "--prefill", options->prefill, "prompt lengths")->capture_default_str();
  option(app, "--batch", options->batch, "numbers of sequences decoded together")->capture_default_str();
  option(app, "--context", options->context, "tokens that each sequence holds when decoding is measured")
      ->capture_default_str();
  flag(app, "--kernels", options->kernels, "also each linear layer's shape by itself");
  add_run_options(app, options->run);
  add_help(app, {},
           {"qtool bench",
            "qtool bench --shape llama-2-7b --random-weights --bits 4 --double-quant --batch 1 --kernels"});
  return [&common, options] { return run(common, *options); };
}

}  // namespace qtool
