// Memory of the GPU that runs out, calls that fail and a GPU that is lost: always an Error with a sentence,
// and what can go on goes on.
#include <cstdlib>
#include <cuda_runtime_api.h>
#include <unistd.h>

#include "core/error.h"
#include "core/model/transformer.h"
#include "cuda/device.h"
#include "cuda/kernels.h"
#include "cuda/raii.h"
#include "formats/architectures.h"
#include "formats/checkpoint.h"
#include "formats/weights_io.h"
#include "test/cuda/gpu.h"
#include "test/support/paths.h"

namespace qtool {
namespace {

std::string device_label() {
  cudaDeviceProp properties;
  REQUIRE(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  return "GPU 0 (" + std::string(properties.name) + ")";
}

// Every operation of the quantizer; its codes and statistics as bytes.
std::vector<std::uint8_t> quantized() {
  const auto gpu = make_cuda_quantizer(0);
  const Tensor values = test::random_tensor(DType::kBF16, {64, 1024}, 3, 0.02f);
  std::vector<std::uint8_t> result(32 * 1024), codes(1024);
  std::vector<float> absmax(1024), nested(4), rows(64);
  std::vector<std::int8_t> int8(64 * 1024);
  gpu->block4(values.view(), Code4::kNf4, 64, result, absmax);
  gpu->nest(absmax, codes, nested);
  gpu->int8_rows(values.view(), int8, rows);
  result.insert(result.end(), codes.begin(), codes.end());
  for (const std::int8_t code : int8) result.push_back(static_cast<std::uint8_t>(code));
  return result;
}

// A prompt, then token by token, so that steps are run, recorded and replayed; the logits as bytes.
std::vector<std::uint8_t> generated() {
  const std::string folder = test::data("demo");
  const auto backend = make_cuda_backend(0);
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const auto source = make_weight_source(checkpoint, nullptr, nullptr);
  Transformer model(model_spec_of(checkpoint), *backend, *source,
                    {DType::kBF16, DType::kBF16, DType::kBF16, {1, 16, 16, 16}}, {});
  const std::vector<std::int32_t> ids{1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41};
  std::vector<std::uint8_t> bytes;
  for (std::size_t done = 0; done < ids.size();) {
    const std::size_t count = done == 0 ? 6 : 1;
    const Segment segment{0, static_cast<std::int64_t>(done), static_cast<std::int64_t>(count)};
    model.forward(std::span(&segment, 1), std::span(ids).subspan(done, count), 0, Transformer::UpTo::kLogits);
    const std::int64_t last = static_cast<std::int64_t>(count) - 1;
    const auto logits = model.logits(std::span(&last, 1));
    const auto* const begin = reinterpret_cast<const std::uint8_t*>(logits.data());
    bytes.insert(bytes.end(), begin, begin + logits.size() * sizeof(float));
    done += count;
  }
  return bytes;
}

std::int64_t free_memory() {
  std::size_t free_now = 0, total = 0;
  REQUIRE(cudaMemGetInfo(&free_now, &total) == cudaSuccess);
  return static_cast<std::int64_t>(free_now);
}

// Lets one call after the other fail, the first ones all, until none is left. Tests of it are tagged [alone]:
// what other processes allocate meanwhile would look like a leak.
template <typename Work>
void fail_in_turn(const Work& work, cudaError_t status, ExitCode code, const std::string& text) {
  const auto expected = work();
  work();  // what is made once is made now
  const std::int64_t free_before = free_memory();
  int failures = 0;
  for (std::int64_t number = 1;; number += number < 40 ? 1 : number / 10) {
    if (test::left_out()) continue;
    INFO("call " << number);
    cuda::fail_call(number, status);
    try {
      const auto found = work();
      cuda::fail_call(0, cudaSuccess);
      CHECK(found == expected);
      break;
    } catch (const Error& error) {
      cuda::fail_call(0, cudaSuccess);
      ++failures;
      CHECK(error.code() == code);
      CHECK_THAT(error.what(), Catch::Contains(device_label()) && Catch::Contains(text));
    }
  }
  CHECK(failures > 10 / test::one_in());
  CHECK(work() == expected);
  CHECK(free_before - free_memory() <= std::int64_t{4} << 20);  // the driver's own pools may have grown
}

TEST_CASE("GPU memory that runs out at any call is said, and given back", "[alone]") {
  SKIP_WITHOUT_GPU();
  fail_in_turn(quantized, cudaErrorMemoryAllocation, ExitCode::kMemory, "out of ");
  fail_in_turn(generated, cudaErrorMemoryAllocation, ExitCode::kMemory, "out of ");
}

TEST_CASE("any CUDA call may fail", "[alone]") {
  SKIP_WITHOUT_GPU();
  fail_in_turn(quantized, cudaErrorIllegalAddress, ExitCode::kDevice, "lost to this process");
  fail_in_turn(generated, cudaErrorECCUncorrectable, ExitCode::kDevice, "lost to this process");
}

TEST_CASE("what is asked for and what is free are in the sentence") {
  SKIP_WITHOUT_GPU();
  cuda::open_device(0);
  try {
    const cuda::Buffer buffer(cuda::Place::kDevice, std::int64_t{1} << 50);
    FAIL("a petabyte was allocated");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kMemory);
    CHECK_THAT(error.what(),
               Catch::Contains(device_label() + ": out of memory: 1125899906842624 bytes needed") &&
                   Catch::Contains(" free"));
  }
}

// Hidden, because no other test can use the GPU after it in this process: a kernel reads where nothing is.
TEST_CASE("lose the GPU", "[.lose]") {
  SKIP_WITHOUT_GPU();
  const std::string label = device_label();
  const auto quantizer = make_cuda_quantizer(0);
  const cuda::Stream stream;
  const cuda::Buffer out(cuda::Place::kDevice, 1 << 16);
  cuda::launch_block4({.values = reinterpret_cast<const void*>(0x1000),
                       .dtype = DType::kBF16,
                       .count = 4096,
                       .code = Code4::kNf4,
                       .block_size = 64,
                       .packed = out.as<std::uint8_t>() + 4096,
                       .absmax = out.as<float>()},
                      stream.get());
  for (int i = 0; i < 2; ++i) {  // all later calls say so, too
    try {
      stream.wait();
      FAIL("nothing happened");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::kDevice);
      CHECK_THAT(error.what(), Catch::StartsWith(label) && Catch::Contains("lost to this process") &&
                                   Catch::Contains("--device cpu"));
    }
  }
  std::vector<std::uint8_t> packed(32);
  std::vector<float> absmax(1);
  CHECK_THROWS_AS(
      quantizer->block4(test::random_tensor(DType::kF32, {64}, 1).view(), Code4::kNf4, 64, packed, absmax),
      Error);
}

TEST_CASE("a GPU that is lost in the middle is an error with its name") {
  SKIP_WITHOUT_GPU();
  char program[4096];  // /proc/self is the shell's in a command
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof program);
  REQUIRE(length > 0);
  const std::string path(program, static_cast<std::size_t>(length));
  CHECK(std::system(("'" + path + "' '[.lose]'").c_str()) == 0);
}

}  // namespace
}  // namespace qtool
