#include "cpu_view.h"

#include <ATen/ops/empty.h>
#include <c10/core/TensorImpl.h>
#include <c10/util/Exception.h>

#include <cstring>
#include <memory>

#include "caching_allocator.h"
#include "device_type.h"
#include "kernel_memory.h"

namespace emulated {

namespace {

void release_storage(void* storage) {
  delete static_cast<c10::Storage*>(storage);
}

// A storage over the memory of `owner` that says it is on `where`, and keeps `owner` alive.
c10::Storage borrow(const c10::Storage& owner, c10::Device where, c10::Allocator* allocator) {
  // const_cast: mutable_data() would materialise copy-on-write storage, which device memory never is.
  auto* memory = const_cast<void*>(owner.data());
  c10::DataPtr data(memory, new c10::Storage(owner), &release_storage, where);
  return c10::Storage(c10::Storage::use_byte_size_t{}, owner.nbytes(), std::move(data), allocator,
                      /*resizable=*/true);
}

at::Tensor tensor_over(c10::Storage storage, c10::DispatchKeySet keys, const at::Tensor& like) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, like.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  tensor._set_conj(like.is_conj());
  tensor._set_neg(like.is_neg());
  return tensor;
}

// Kernels allocate on the calling thread, inside KernelMemory, so results are in device memory already; one that is
// not (allocated by a worker thread, or long before) moves there.
c10::Storage in_device_memory(const c10::Storage& cpu_storage) {
  auto& allocator = CachingAllocator::instance();
  if (cpu_storage.nbytes() == 0 || allocator.owns(cpu_storage.data())) {
    return borrow(cpu_storage, device(), &allocator);
  }
  auto data = allocator.allocate(cpu_storage.nbytes());
  std::memcpy(data.get(), cpu_storage.data(), cpu_storage.nbytes());
  return c10::Storage(c10::Storage::use_byte_size_t{}, cpu_storage.nbytes(), std::move(data), &allocator, true);
}

}  // namespace

bool is_on_device(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == kDeviceType;
}

at::Tensor CpuViews::to_cpu(const at::Tensor& tensor) {
  if (!is_on_device(tensor)) {
    return tensor;
  }
  constexpr c10::DispatchKeySet kCpuKeys(c10::DispatchKey::CPU);
  return tensor_over(cpu_storage_for(tensor.storage()), kCpuKeys, tensor);
}

at::Tensor CpuViews::to_device(const at::Tensor& result) {
  if (!result.defined() || is_on_device(result)) {
    return result;
  }
  TORCH_CHECK_NOT_IMPLEMENTED(result.layout() == c10::kStrided && !result.is_quantized(),
                              "the emulated device holds dense tensors only, not ", result.layout(), " ones");
  return tensor_over(device_storage_for(result.storage()), kDispatchKeys, result);
}

void CpuViews::write_back(const at::Tensor& view, const at::Tensor& original) {
  auto* impl = original.unsafeGetTensorImpl();
  const auto device_storage = device_storage_for(view.storage());
  if (device_storage.unsafeGetStorageImpl() != original.storage().unsafeGetStorageImpl()) {
    impl->set_storage_keep_dtype(device_storage);
  } else if (device_storage.data() != view.storage().data()) {
    // The kernel resized the storage: its new memory becomes that of the device storage, for every tensor on it.
    auto* storage = original.storage().unsafeGetStorageImpl();
    auto grown = in_device_memory(view.storage());
    storage->set_nbytes(grown.nbytes());
    storage->set_data_ptr_noswap(std::move(grown.unsafeGetStorageImpl()->mutable_data_ptr()));
  }
  if (view.sizes() != original.sizes() || view.strides() != original.strides() ||
      view.storage_offset() != original.storage_offset()) {
    impl->set_sizes_and_strides(view.sizes(), view.strides(), view.storage_offset());
  }
}

c10::Storage CpuViews::cpu_storage_for(const c10::Storage& device_storage) {
  for (const auto& [cpu, on_device] : storages_) {
    if (on_device.unsafeGetStorageImpl() == device_storage.unsafeGetStorageImpl()) {
      return cpu;
    }
  }
  auto cpu = borrow(device_storage, c10::Device(c10::kCPU), &kernel_allocator());
  storages_.emplace_back(cpu, device_storage);
  return cpu;
}

c10::Storage CpuViews::device_storage_for(const c10::Storage& cpu_storage) {
  for (const auto& [cpu, on_device] : storages_) {
    if (cpu.unsafeGetStorageImpl() == cpu_storage.unsafeGetStorageImpl()) {
      return on_device;
    }
  }
  auto on_device = in_device_memory(cpu_storage);
  storages_.emplace_back(cpu_storage, on_device);
  return on_device;
}

at::Tensor cpu_view(const at::Tensor& tensor) {
  return CpuViews().to_cpu(tensor);
}

}  // namespace emulated
