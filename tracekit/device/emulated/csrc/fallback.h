// Every operator that the device does not define itself: the CPU's kernel, run on device memory in place.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

namespace emulated {

// Runs `op` on the arguments on top of `stack`, counted and logged as one kernel of the device.
void run_on_device(const c10::OperatorHandle& op, torch::jit::Stack* stack);

}  // namespace emulated
