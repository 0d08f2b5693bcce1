// The link between host and device: every byte that crosses it, or moves on the device, moves in transfer().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace emulated {

enum class Direction { kHostToDevice, kDeviceToHost, kDeviceToDevice };

// The ground truth for tests: counted whether or not the log is on.
struct Counters {
  std::atomic<int64_t> h2d_count{0}, h2d_bytes{0};
  std::atomic<int64_t> d2h_count{0}, d2h_bytes{0};
  std::atomic<int64_t> d2d_count{0}, d2d_bytes{0};
  std::atomic<int64_t> kernel_count{0};
};

Counters& counters();
void reset_counters();

// Decimal GB/s of each direction of the link; 0 leaves it as fast as memcpy is.
void set_link_gbps(double gbps);
double link_gbps();

// One memcpy, one count, one log entry. Both ranges are dense.
void transfer(Direction direction, void* destination, const void* source, size_t bytes);

}  // namespace emulated
