// The extension's Python face. Plain numbers and tuples only: the Python side gives them names and types.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "caching_allocator.h"
#include "device_hooks.h"
#include "generator.h"
#include "kernel_memory.h"
#include "link.h"
#include "op_log.h"

namespace py = pybind11;

namespace emulated {

namespace {

const char* kind_name(OpKind kind) {
  switch (kind) {
    case OpKind::kMemcpy:
      return "memcpy";
    case OpKind::kMemset:
      return "memset";
    default:
      return "kernel";
  }
}

py::tuple counter_values() {
  const auto& all = counters();
  return py::make_tuple(all.h2d_count.load(), all.h2d_bytes.load(), all.d2h_count.load(), all.d2h_bytes.load(),
                        all.d2d_count.load(), all.d2d_bytes.load(), all.kernel_count.load());
}

py::tuple memory_values() {
  const auto state = CachingAllocator::instance().state();
  return py::make_tuple(state.allocated_bytes, state.reserved_bytes, state.peak_allocated_bytes,
                        state.peak_reserved_bytes, state.cap_bytes);
}

py::list take_log() {
  py::list records;
  for (const auto& record : OpLog::instance().drain()) {
    records.append(py::make_tuple(kind_name(record.kind), *record.name, record.direction, record.host_address,
                                  record.size_bytes, record.start_ns, record.end_ns, record.thread_id,
                                  record.correlation_id));
  }
  return records;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  install_hooks();
  install_kernel_memory();
  module.def("counters", &counter_values);
  module.def("reset_counters", &reset_counters);
  module.def("memory", &memory_values);
  module.def("memory_info", [] { return CachingAllocator::instance().getMemoryInfo(0); });
  module.def("reset_peak", [] { CachingAllocator::instance().resetPeakStats(0); });
  module.def("empty_cache", [] { CachingAllocator::instance().emptyCache(); });
  module.def("default_generator", [] { return default_generator(); });
  module.def("set_cap", [](std::optional<size_t> bytes) { CachingAllocator::instance().set_cap(bytes); });
  module.def("set_link_gbps", &set_link_gbps);
  module.def("link_gbps", &link_gbps);
  module.def("start_log", [](size_t capacity) { OpLog::instance().start(capacity); });
  module.def("stop_log", [] { OpLog::instance().stop(); });
  module.def("take_log", &take_log);
  module.def("dropped_ops", [] { return OpLog::instance().dropped(); });
}

}  // namespace emulated
