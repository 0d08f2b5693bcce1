// Device tensors as CPU tensors over the same memory, and back: how CPU kernels compute on the device without a copy.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

#include <utility>
#include <vector>

namespace emulated {

bool is_on_device(const at::Tensor& tensor);

// For the time of one call: remembers which CPU storage stands for which device storage, so that what the CPU kernel
// returns becomes the same tensor, a view of the same storage, or a new tensor, just as on a real device.
class CpuViews {
 public:
  // A CPU tensor over the memory of `tensor`; a tensor that is not on the device is returned as it is.
  at::Tensor to_cpu(const at::Tensor& tensor);
  // The device tensor for what a kernel returned.
  at::Tensor to_device(const at::Tensor& result);
  // Makes `original` what the kernel made of its CPU view (out= and in-place operations may resize or re-point it).
  void write_back(const at::Tensor& view, const at::Tensor& original);

 private:
  c10::Storage cpu_storage_for(const c10::Storage& device_storage);
  c10::Storage device_storage_for(const c10::Storage& cpu_storage);

  std::vector<std::pair<c10::Storage, c10::Storage>> storages_;  // CPU storage, device storage
};

// One view outside an operator call.
at::Tensor cpu_view(const at::Tensor& tensor);

}  // namespace emulated
