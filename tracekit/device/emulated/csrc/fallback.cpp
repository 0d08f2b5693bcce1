#include "fallback.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cpu_view.h"
#include "device_type.h"
#include "generator.h"
#include "kernel_memory.h"
#include "link.h"
#include "op_log.h"

namespace emulated {

namespace {

using torch::jit::Stack;

bool is_written(const c10::Argument& argument) {
  return argument.alias_info() != nullptr && argument.alias_info()->isWrite();
}

// Operators such as unfold and view_as_real only describe memory anew; no device runs a kernel for them.
bool is_view(const c10::FunctionSchema& schema) {
  for (const auto& result : schema.returns()) {
    if (result.alias_info() != nullptr && !result.alias_info()->isWrite()) {
      return true;
    }
  }
  return false;
}

// As on CUDA: a tensor left on the host is an error, except for a single number, which travels with the launch.
void check_same_device(const c10::FunctionSchema& schema, const at::Tensor& tensor) {
  TORCH_CHECK(!tensor.defined() || tensor.dim() == 0 || is_on_device(tensor),
              "Expected all tensors to be on the same device, but found at least two devices, ", device(), " and ",
              tensor.device(), "! (when calling ", schema.name(), ")");
}

// One operator call: its arguments turned to the CPU, the CPU's kernel, its results turned back.
class KernelCall {
 public:
  KernelCall(const c10::OperatorHandle& op, Stack* stack)
      : op_(op), schema_(op.schema()), stack_(stack), first_(stack->size() - schema_.arguments().size()) {}

  void run() {
    for (size_t i = 0; i < schema_.arguments().size(); ++i) {
      turn_argument((*stack_)[first_ + i], schema_.arguments()[i]);
    }
    run_cpu_kernel();
    for (const auto& [view, original] : written_) {
      views_.write_back(view, original);
    }
    const size_t first_result = stack_->size() - schema_.returns().size();
    for (size_t i = first_result; i < stack_->size(); ++i) {
      turn_result((*stack_)[i]);
    }
  }

 private:
  void turn_argument(c10::IValue& value, const c10::Argument& argument) {
    if (value.isTensor()) {
      value = turn_tensor(value.toTensor(), is_written(argument));
    } else if (value.isTensorList()) {
      value = turn_list(value.toTensorVector(), is_written(argument));
    } else if (value.isOptionalTensorList()) {
      value = turn_indices(value.toOptionalTensorList());
    } else if (value.isGenerator() || (value.isNone() && takes_generator(argument))) {
      value = cpu_generator(value.isNone() ? default_generator() : value.toGenerator());
    } else if (value.isDevice() && value.toDevice().type() == kDeviceType) {
      value = c10::Device(c10::kCPU);
    }
  }

  at::Tensor turn_tensor(const at::Tensor& tensor, bool written) {
    check_same_device(schema_, tensor);
    auto view = views_.to_cpu(tensor);
    if (is_on_device(tensor)) {
      inputs_.emplace_back(view, tensor);
      if (written) {
        written_.emplace_back(view, tensor);
      }
    }
    return view;
  }

  std::vector<at::Tensor> turn_list(std::vector<at::Tensor> tensors, bool written) {
    for (auto& tensor : tensors) {
      tensor = turn_tensor(tensor, written);
    }
    return tensors;
  }

  // Only indexing takes such lists. As on CUDA, indices on the host are copied to the device first.
  c10::List<std::optional<at::Tensor>> turn_indices(const c10::List<std::optional<at::Tensor>>& indices) {
    c10::List<std::optional<at::Tensor>> turned;
    turned.reserve(indices.size());
    for (const std::optional<at::Tensor> index : indices) {
      const bool is_tensor = index.has_value() && index->defined();
      turned.push_back(is_tensor ? std::optional(views_.to_cpu(index->to(device()))) : index);
    }
    return turned;
  }

  static bool takes_generator(const c10::Argument& argument) {
    const auto* optional = argument.type()->castRaw<c10::OptionalType>();
    return optional != nullptr && optional->getElementType()->kind() == c10::TypeKind::GeneratorType;
  }

  void run_cpu_kernel() {
    const int64_t start_ns = monotonic_ns();
    {
      const at::AutoDispatchBelowAutograd no_autograd;
      const KernelMemory device_memory;
      op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack_);
    }
    if (is_view(schema_)) {
      return;
    }
    counters().kernel_count += 1;
    if (auto& log = OpLog::instance(); log.is_on()) {
      const auto kind = schema_.name() == "aten::zero_" ? OpKind::kMemset : OpKind::kKernel;
      log.append(kind, schema_.name(), "", nullptr, 0, start_ns, monotonic_ns());
    }
  }

  void turn_result(c10::IValue& value) {
    if (value.isTensor()) {
      value = original_or_new(value.toTensor());
    } else if (value.isTensorList()) {
      auto tensors = value.toTensorVector();
      for (auto& tensor : tensors) {
        tensor = original_or_new(tensor);
      }
      value = std::move(tensors);
    }
  }

  // In-place and out= operators return their argument: the caller must get the very tensor that it gave.
  at::Tensor original_or_new(const at::Tensor& result) {
    for (const auto& [view, original] : inputs_) {
      if (view.is_same(result)) {
        return original;
      }
    }
    return views_.to_device(result);
  }

  const c10::OperatorHandle& op_;
  const c10::FunctionSchema& schema_;
  Stack* stack_;
  const size_t first_;
  CpuViews views_;
  std::vector<std::pair<at::Tensor, at::Tensor>> inputs_;   // CPU view, device tensor
  std::vector<std::pair<at::Tensor, at::Tensor>> written_;  // those of them that the operator writes
};

// torch sends convolutions of devices that it does not know to an operator that a backend has to define.
void convolution(const c10::OperatorHandle&, Stack* stack) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::convolution", "");
  run_on_device(op, stack);
}

}  // namespace

void run_on_device(const c10::OperatorHandle& op, Stack* stack) {
  KernelCall(op, stack).run();
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_device>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("convolution_overrideable", torch::CppFunction::makeFromBoxedFunction<&convolution>());
  // These have a device-independent formula, which torch would prefer to the fallback: the CPU's kernel is one kernel,
  // as on a real device, and gives the CPU's own bits.
  library.impl("native_layer_norm", torch::CppFunction::makeFromBoxedFunction<&run_on_device>());
  library.impl("native_group_norm", torch::CppFunction::makeFromBoxedFunction<&run_on_device>());
  // The default is two steps, of which each would copy an index from the host; CUDA copies it once.
  library.impl("index.Tensor", torch::CppFunction::makeFromBoxedFunction<&run_on_device>());
}

}  // namespace emulated
