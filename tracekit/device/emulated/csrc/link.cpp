#include "link.h"

#include <time.h>

#include <cstring>
#include <mutex>
#include <string>

#include "op_log.h"

namespace emulated {

namespace {

// One direction of a slower link. Copies that run at the same time queue for it, as they share a real one, and the two
// directions do not wait for each other, as PCIe is full duplex.
class Lane {
 public:
  // The moment at which a copy of this size that starts now will have crossed.
  int64_t reserve(size_t bytes, int64_t now_ns, double gbps) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t start_ns = now_ns > busy_until_ns_ ? now_ns : busy_until_ns_;
    busy_until_ns_ = start_ns + static_cast<int64_t>(static_cast<double>(bytes) / gbps) + 1;
    return busy_until_ns_;
  }

 private:
  std::mutex mutex_;
  int64_t busy_until_ns_ = 0;
};

std::atomic<double> gbps_of_link{0};

struct DirectionTraits {
  const char* code;
  std::string name;  // Kineto's, so that tools for CUDA traces know the record
  std::atomic<int64_t>* count;
  std::atomic<int64_t>* bytes;
  Lane* lane;  // nullptr: does not cross the link
};

const DirectionTraits& traits_of(Direction direction) {
  static auto* to_device = new Lane();
  static auto* to_host = new Lane();
  static auto& count = counters();
  // Never destroyed, as op_log.cpp keeps running at exit.
  static const auto* traits = new DirectionTraits[3]{
      {"H2D", "Memcpy HtoD (Pageable -> Device)", &count.h2d_count, &count.h2d_bytes, to_device},
      {"D2H", "Memcpy DtoH (Device -> Pageable)", &count.d2h_count, &count.d2h_bytes, to_host},
      {"D2D", "Memcpy DtoD (Device -> Device)", &count.d2d_count, &count.d2d_bytes, nullptr},
  };
  return traits[static_cast<size_t>(direction)];
}

const void* host_side(Direction direction, const void* destination, const void* source) {
  switch (direction) {
    case Direction::kHostToDevice:
      return source;
    case Direction::kDeviceToHost:
      return destination;
    default:
      return nullptr;
  }
}

// Sleeps for the most part, then spins: a sleep alone overshoots by 50 us or more, the time of a small copy.
void wait_until(int64_t end_ns) {
  constexpr int64_t kSpinNs = 200'000;
  const int64_t sleep_until_ns = end_ns - kSpinNs;
  if (monotonic_ns() < sleep_until_ns) {
    const timespec wake{sleep_until_ns / 1'000'000'000, sleep_until_ns % 1'000'000'000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, nullptr) != 0) {
    }
  }
  while (monotonic_ns() < end_ns) {
  }
}

}  // namespace

Counters& counters() {
  static auto* all = new Counters();
  return *all;
}

void reset_counters() {
  auto& all = counters();
  for (auto* counter : {&all.h2d_count, &all.h2d_bytes, &all.d2h_count, &all.d2h_bytes, &all.d2d_count,
                        &all.d2d_bytes, &all.kernel_count}) {
    *counter = 0;
  }
}

void set_link_gbps(double gbps) {
  gbps_of_link = gbps;
}

double link_gbps() {
  return gbps_of_link;
}

void transfer(Direction direction, void* destination, const void* source, size_t bytes) {
  const auto& traits = traits_of(direction);
  const int64_t start_ns = monotonic_ns();
  const double gbps = traits.lane != nullptr ? gbps_of_link.load() : 0;
  const int64_t crossed_ns = gbps > 0 ? traits.lane->reserve(bytes, start_ns, gbps) : 0;
  std::memcpy(destination, source, bytes);
  if (crossed_ns > 0) {
    wait_until(crossed_ns);
  }
  const int64_t end_ns = monotonic_ns();
  *traits.count += 1;
  *traits.bytes += static_cast<int64_t>(bytes);
  if (auto& log = OpLog::instance(); log.is_on()) {
    log.append(OpKind::kMemcpy, traits.name, traits.code, host_side(direction, destination, source),
               static_cast<int64_t>(bytes), start_ns, end_ns);
  }
}

}  // namespace emulated
