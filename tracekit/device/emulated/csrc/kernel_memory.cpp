#include "kernel_memory.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <limits>

#include "caching_allocator.h"

namespace emulated {

namespace {

thread_local int depth = 0;

class KernelAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    return CachingAllocator::instance().allocate_for(c10::Device(c10::kCPU), size);
  }
  c10::DeleterFnPtr raw_deleter() const override { return CachingAllocator::instance().raw_deleter(); }
  void copy_data(void* destination, const void* source, size_t size) const override {
    default_copy_data(destination, source, size);
  }
};

// torch's own CPU allocator, except inside KernelMemory.
class RoutingAllocator final : public c10::Allocator {
 public:
  explicit RoutingAllocator(c10::Allocator* usual) : usual_(usual) { usual_deleter = usual->raw_deleter(); }

  c10::DataPtr allocate(size_t size) override {
    return depth > 0 ? kernel_allocator().allocate(size) : usual_->allocate(size);
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_by_address; }
  void copy_data(void* destination, const void* source, size_t size) const override {
    usual_->copy_data(destination, source, size);
  }

 private:
  static void free_by_address(void* address) {
    auto& device_memory = CachingAllocator::instance();
    if (device_memory.owns(address)) {
      device_memory.free(address);
    } else {
      usual_deleter(address);
    }
  }

  static inline c10::DeleterFnPtr usual_deleter = nullptr;
  c10::Allocator* usual_;
};

}  // namespace

KernelMemory::KernelMemory() {
  ++depth;
}

KernelMemory::~KernelMemory() {
  --depth;
}

c10::Allocator& kernel_allocator() {
  static auto* allocator = new KernelAllocator();
  return *allocator;
}

void install_kernel_memory() {
  static auto* router = new RoutingAllocator(c10::GetCPUAllocator());
  c10::SetCPUAllocator(router, std::numeric_limits<uint8_t>::max());
}

}  // namespace emulated
