// torch.Generator(device="emulated"): the CPU's generator in device clothes, so that a seed gives the CPU's numbers.
#pragma once

#include <ATen/core/Generator.h>

namespace emulated {

at::Generator new_generator();
const at::Generator& default_generator();

// What the CPU's kernels draw from; a generator of the CPU is refused, as CUDA refuses it.
at::Generator cpu_generator(const at::Generator& generator);

}  // namespace emulated
