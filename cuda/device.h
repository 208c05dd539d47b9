// The GPU itself: what is asked once.
#pragma once

#include <cstdint>
#include <string>

namespace qtool::cuda {

struct Device {
  int index = 0;
  std::string name;
  int capability = 0;  // 10 * major + minor
  int multiprocessors = 0;
  int shared_bytes = 0;  // that one thread block may have
  std::int64_t l2_bytes = 0;
};

// Whether a device of `capability` runs this program's code with Hopper's own instructions (hopper.cuh): they
// are compiled for 9.0a alone.
bool has_hopper_code(int capability);

// Makes it the calling thread's device. Errors: kDevice, with why.
Device open_device(int index);

}  // namespace qtool::cuda
