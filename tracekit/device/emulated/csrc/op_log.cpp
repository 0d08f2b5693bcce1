#include "op_log.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <utility>

namespace emulated {

namespace {

int64_t native_thread_id() {
  thread_local const auto id = static_cast<int64_t>(syscall(SYS_gettid));
  return id;
}

}  // namespace

int64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

OpLog& OpLog::instance() {
  static auto* log = new OpLog();  // never destroyed: threads may still append at exit
  return *log;
}

void OpLog::start(size_t capacity) {
  const std::lock_guard<std::mutex> lock(mutex_);
  records_.clear();
  capacity_ = capacity;
  dropped_ = 0;
  on_ = true;
}

void OpLog::stop() {
  on_ = false;
}

std::vector<OpRecord> OpLog::drain() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(records_, {});
}

int64_t OpLog::dropped() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return dropped_;
}

void OpLog::append(OpKind kind, const std::string& name, const char* direction, const void* host_address,
                   int64_t size_bytes, int64_t start_ns, int64_t end_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t correlation_id = ++last_correlation_id_;
  if (records_.size() >= capacity_) {
    ++dropped_;
    return;
  }
  const std::string& interned = *names_.insert(name).first;
  records_.push_back({kind, &interned, direction, reinterpret_cast<uintptr_t>(host_address), size_bytes, start_ns,
                      end_ns, native_thread_id(), correlation_id});
}

}  // namespace emulated
