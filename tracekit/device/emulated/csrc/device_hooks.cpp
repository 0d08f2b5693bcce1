// What torch asks a device about itself: how many there are, its streams, its pinned memory, its generators.

#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "device_hooks.h"
#include "device_type.h"
#include "generator.h"
#include "storage.h"

namespace emulated {

namespace {

class Guard final : public c10::impl::NoOpDeviceGuardImpl<kDeviceType> {
 public:
  c10::Device getDevice() const override { return device(); }
  c10::Device exchangeDevice(c10::Device) const override { return device(); }
  c10::Stream getStream(c10::Device) const noexcept override { return only_stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return only_stream(); }
  void synchronizeDevice(c10::DeviceIndex) const override {}  // nothing is ever pending
  c10::Stream getNewStream(c10::Device, int) const override {
    TORCH_CHECK_NOT_IMPLEMENTED(
        false, "the emulated device has no streams: its operations end before their calls return");
  }

 private:
  static c10::Stream only_stream() { return c10::Stream(c10::Stream::DEFAULT, device()); }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

class Hooks final : public at::PrivateUse1HooksInterface {
 public:
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override { return maybeExchangeDevice(index); }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    setCurrentDevice(index);
    return 0;
  }
  void setCurrentDevice(c10::DeviceIndex index) const override {
    TORCH_CHECK(index <= 0, "there is one emulated device, emulated:0, not index ", static_cast<int>(index));
  }
  at::Device getDeviceFromPtr(void*) const override { return device(); }
  bool isPinnedPtr(const void*) const override { return false; }
  // Page-locked memory would make no difference to a memcpy: a figure for it would be pretended.
  at::Allocator* getPinnedMemoryAllocator() const override {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "the emulated device has no page-locked memory: pin_memory needs a real GPU");
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return new_generator(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    resize_storage(storage, bytes);
  }
};

}  // namespace

void install_hooks() {
  at::RegisterPrivateUse1HooksInterface(new Hooks());
}

}  // namespace emulated
