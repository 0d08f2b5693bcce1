// The record of what the device did: one entry a copy or kernel, while the log is on.
//
// Bounded: past its capacity it drops the new entries and counts them. Entries come in the order in which operations
// ended; each carries its own thread and times, so the order means nothing more.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

namespace emulated {

enum class OpKind { kMemcpy, kKernel, kMemset };

struct OpRecord {
  OpKind kind;
  const std::string* name;  // interned for the life of the process
  const char* direction;    // "H2D", "D2H", "D2D", or "" for kernels
  uintptr_t host_address;   // of a copy's host side; 0 where there is none
  int64_t size_bytes;
  int64_t start_ns;  // CLOCK_MONOTONIC
  int64_t end_ns;
  int64_t thread_id;  // the kernel's, as in /proc
  int64_t correlation_id;
};

int64_t monotonic_ns();

class OpLog {
 public:
  static OpLog& instance();

  bool is_on() const { return on_.load(std::memory_order_relaxed); }
  // Empties the log, and the count of dropped entries with it.
  void start(size_t capacity);
  void stop();
  std::vector<OpRecord> drain();
  int64_t dropped();

  // Fills in thread and correlation id. An operation that began while the log was off may be appended.
  void append(OpKind kind, const std::string& name, const char* direction, const void* host_address,
              int64_t size_bytes, int64_t start_ns, int64_t end_ns);

 private:
  std::atomic<bool> on_{false};
  std::mutex mutex_;
  std::unordered_set<std::string> names_;
  std::vector<OpRecord> records_;
  size_t capacity_ = 0;
  int64_t dropped_ = 0;
  int64_t last_correlation_id_ = 0;
};

}  // namespace emulated
