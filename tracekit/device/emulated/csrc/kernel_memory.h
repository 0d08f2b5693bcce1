// Where CPU kernels allocate while they run for the device: in device memory, so that activations and workspaces are
// accounted for and capped as on a real card, and a result needs no copy to become a device tensor.
#pragma once

#include <c10/core/Allocator.h>

namespace emulated {

// While one is alive, at::empty(device=cpu) on this thread takes device memory.
class KernelMemory {
 public:
  KernelMemory();
  ~KernelMemory();
  KernelMemory(const KernelMemory&) = delete;
  KernelMemory& operator=(const KernelMemory&) = delete;
};

// Device memory that says it is the CPU's, always: for storages that a kernel may resize.
c10::Allocator& kernel_allocator();

// Puts the routing allocator in front of torch's own for the CPU; called once, when the extension is loaded.
void install_kernel_memory();

}  // namespace emulated
