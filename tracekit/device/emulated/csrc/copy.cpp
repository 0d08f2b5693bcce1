// Copies between host and device, taken apart as CUDA takes them: gather on the source's side, one memcpy over the
// link, scatter on the destination's side, and convert where CUDA does.

#include <ATen/core/Tensor.h>
#include <ATen/ops/_to_copy_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/Scalar.h>
#include <torch/library.h>

#include <optional>
#include <string>

#include "cpu_view.h"
#include "device_type.h"
#include "kernel_memory.h"
#include "link.h"
#include "op_log.h"

namespace emulated {

namespace {

Direction direction_of(const at::Tensor& source, const at::Tensor& destination) {
  if (!is_on_device(source)) {
    return Direction::kHostToDevice;
  }
  return is_on_device(destination) ? Direction::kDeviceToDevice : Direction::kDeviceToHost;
}

bool has_lazy_bits(const at::Tensor& tensor) {
  return tensor.is_conj() || tensor.is_neg();
}

// Both sides are the same bytes in the same order.
bool is_plain_memcpy(const at::Tensor& source, const at::Tensor& destination) {
  return source.scalar_type() == destination.scalar_type() && source.sizes() == destination.sizes() &&
         source.strides() == destination.strides() && source.is_non_overlapping_and_dense() &&
         !has_lazy_bits(source) && !has_lazy_bits(destination);
}

void transfer_tensor(Direction direction, const at::Tensor& source, const at::Tensor& destination) {
  // const_data_ptr: a file-mapped source must not be written to, nor a lazy one materialised.
  transfer(direction, destination.mutable_data_ptr(), source.const_data_ptr(), destination.nbytes());
}

void copy_with_kernel(const at::Tensor& source, const at::Tensor& destination) {
  static const std::string name = "aten::copy_";
  const int64_t start_ns = monotonic_ns();
  {
    const KernelMemory device_memory;
    cpu_view(destination).copy_(cpu_view(source));
  }
  counters().kernel_count += 1;
  if (auto& log = OpLog::instance(); log.is_on()) {
    log.append(OpKind::kKernel, name, "", nullptr, 0, start_ns, monotonic_ns());
  }
}

// CUDA converts on the host in a blocking copy, to spare device memory, and on the device in a non-blocking one
// (torch's copy_kernel_cuda): so the link carries the device's dtype, or the host's.
void copy_through_staging(Direction direction, const at::Tensor& source, const at::Tensor& destination,
                          bool non_blocking) {
  const bool source_on_host = direction == Direction::kHostToDevice;
  const auto carried = (source_on_host == non_blocking) ? source.scalar_type() : destination.scalar_type();
  const auto dense_source = source.to(carried).resolve_conj().resolve_neg().expand_as(destination).contiguous();
  const bool needs_scatter =
      !destination.is_contiguous() || has_lazy_bits(destination) || destination.scalar_type() != carried;
  const auto dense_destination =
      needs_scatter ? at::empty(destination.sizes(), destination.options().dtype(carried)) : destination;
  transfer_tensor(direction, dense_source, dense_destination);
  if (needs_scatter) {
    destination.copy_(dense_destination);
  }
}

at::Tensor copy_from(const at::Tensor& source, const at::Tensor& destination, bool non_blocking) {
  if (destination.numel() == 0) {
    return destination;
  }
  const auto direction = direction_of(source, destination);
  if (is_plain_memcpy(source, destination)) {
    transfer_tensor(direction, source, destination);
  } else if (direction == Direction::kDeviceToDevice) {
    copy_with_kernel(source, destination);
  } else {
    copy_through_staging(direction, source, destination, non_blocking);
  }
  return destination;
}

at::Tensor copy_from_and_resize(const at::Tensor& source, const at::Tensor& destination) {
  destination.resize_(source.sizes());
  return copy_from(source, destination, false);
}

// tensor.to("cpu", non_blocking=True): torch would allocate the result in page-locked memory, which this device does
// not have. A result that says it is not pinned pretends nothing, and code that asks for such copies runs.
at::Tensor to_copy(const at::Tensor& source, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout> layout,
                   std::optional<c10::Device> where, std::optional<bool> pin_memory, bool non_blocking,
                   std::optional<c10::MemoryFormat> format) {
  if (!non_blocking || !where || !where->is_cpu()) {
    return at::native::_to_copy(source, dtype, layout, where, pin_memory, non_blocking, format);
  }
  const auto options = source.options()
                           .device(*where)
                           .dtype(dtype.value_or(source.scalar_type()))
                           .layout(layout)
                           .pinned_memory(pin_memory);
  auto result = at::empty_like(source, options, format.value_or(c10::MemoryFormat::Preserve));
  return result.copy_(source, non_blocking);
}

// tensor.item(): the number crosses the link, as on CUDA.
at::Scalar local_scalar_dense(const at::Tensor& tensor) {
  const auto on_host = at::empty(tensor.sizes(), tensor.options().device(c10::kCPU));
  copy_from(tensor, on_host, false);
  return on_host.item();
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_to_copy", &to_copy);
  library.impl("_local_scalar_dense", &local_scalar_dense);
}

// torch would resolve a conjugated or negated source before the copy, with a copy, whose source is conjugated, and so
// on without end. copy_from does it itself.
TORCH_LIBRARY_IMPL(aten, Conjugate, library) {
  library.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, Negative, library) {
  library.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

}  // namespace emulated
