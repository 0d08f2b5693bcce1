// How device tensors come to be and change shape: allocation, views, resizing, and data that moves between devices.

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DefaultDtype.h>
#include <torch/library.h>

#include <optional>

#include "caching_allocator.h"
#include "device_type.h"
#include "storage.h"

namespace emulated {

namespace {

void check_options(std::optional<c10::Layout> layout, std::optional<c10::Device> where,
                   std::optional<bool> pin_memory) {
  TORCH_CHECK(!where || where->index() <= 0, "there is one emulated device, emulated:0, not ", *where);
  TORCH_CHECK_NOT_IMPLEMENTED(layout.value_or(c10::kStrided) == c10::kStrided,
                              "the emulated device holds dense tensors only, not ", *layout, " ones");
  TORCH_CHECK(!pin_memory.value_or(false), "Only dense CPU tensors can be pinned");
}

at::Tensor empty(c10::SymIntArrayRef sizes, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout> layout,
                 std::optional<c10::Device> where, std::optional<bool> pin_memory,
                 std::optional<c10::MemoryFormat> format) {
  check_options(layout, where, pin_memory);
  return at::detail::empty_generic_symint(sizes, &CachingAllocator::instance(), kDispatchKeys,
                                          c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::SymIntArrayRef sizes, c10::SymIntArrayRef strides, std::optional<c10::ScalarType> dtype,
                         std::optional<c10::Layout> layout, std::optional<c10::Device> where,
                         std::optional<bool> pin_memory) {
  check_options(layout, where, pin_memory);
  return at::detail::empty_strided_symint_generic(sizes, strides, &CachingAllocator::instance(), kDispatchKeys,
                                                  c10::dtype_or_default(dtype));
}

const at::Tensor& resize_(const at::Tensor& self, c10::SymIntArrayRef symbolic_sizes,
                          std::optional<c10::MemoryFormat> format) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(C10_AS_INTARRAYREF_SLOW(symbolic_sizes));
  if (format && *format != c10::MemoryFormat::Preserve) {
    impl->empty_tensor_restride(*format);
  }
  const size_t elements = static_cast<size_t>(self.storage_offset() + self.numel());
  const size_t needed = self.numel() == 0 ? 0 : elements * self.itemsize();
  if (needed > self.storage().nbytes()) {
    resize_storage(self.storage(), needed);
  }
  return self;
}

at::Tensor& set_storage_view(at::Tensor& self, at::Storage source, c10::SymInt offset, c10::SymIntArrayRef sizes,
                             c10::SymIntArrayRef strides) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  const auto plain_sizes = C10_AS_INTARRAYREF_SLOW(sizes);
  if (strides.size() == sizes.size()) {
    impl->set_sizes_and_strides(plain_sizes, C10_AS_INTARRAYREF_SLOW(strides), offset.expect_int());
  } else {
    impl->set_sizes_contiguous(plain_sizes);
    impl->set_storage_offset(offset.expect_int());
  }
  return self;
}

at::Tensor& set_whole_storage(at::Tensor& self, at::Storage source) {
  const auto elements = static_cast<int64_t>(source.nbytes() / self.itemsize());
  return set_storage_view(self, std::move(source), 0, {elements}, {});
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  return set_storage_view(self, source.storage(), source.storage_offset(), source.sym_sizes(), source.sym_strides());
}

// `parameter.data = tensor_on_another_device` is legal between torch's own devices, and module.to(), accelerate and
// diffusers' group offload rely on it; torch asks this operator, whose answer for other backends is no.
bool data_may_be_set(const at::Tensor&, const at::Tensor&) {
  return true;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("resize_", &resize_);
  library.impl("set_.source_Storage_storage_offset", &set_storage_view);
  library.impl("set_.source_Storage", &set_whole_storage);
  library.impl("set_.source_Tensor", &set_tensor);
  library.impl("_has_compatible_shallow_copy_type", &data_may_be_set);
}

TORCH_LIBRARY_IMPL(aten, AutogradPrivateUse1, library) {
  // The operator is a composite one: without this, autograd's key would take torch's own answer.
  library.impl("_has_compatible_shallow_copy_type", &data_may_be_set);
}

}  // namespace emulated
