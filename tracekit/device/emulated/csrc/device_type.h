// The torch device that the emulated accelerator is: PrivateUse1, renamed to "emulated", with the one index 0.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/DispatchKey.h>
#include <c10/core/DispatchKeySet.h>

namespace emulated {

constexpr auto kDeviceType = c10::DeviceType::PrivateUse1;
constexpr c10::DispatchKeySet kDispatchKeys(c10::DispatchKey::PrivateUse1);

inline c10::Device device() {
  return c10::Device(kDeviceType, 0);
}

}  // namespace emulated
