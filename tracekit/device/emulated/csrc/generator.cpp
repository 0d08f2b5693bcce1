#include "generator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GeneratorImpl.h>
#include <c10/util/Exception.h>

#include "device_type.h"

namespace emulated {

namespace {

class EmulatedGenerator final : public c10::GeneratorImpl {
 public:
  explicit EmulatedGenerator(at::Generator on_cpu)
      : GeneratorImpl(emulated::device(), kDispatchKeys), on_cpu_(std::move(on_cpu)) {}

  const at::Generator& on_cpu() const { return on_cpu_; }

  void set_current_seed(uint64_t seed) override { on_cpu_.set_current_seed(seed); }
  void set_offset(uint64_t offset) override { on_cpu_.set_offset(offset); }
  uint64_t get_offset() const override { return on_cpu_.get_offset(); }
  uint64_t current_seed() const override { return on_cpu_.current_seed(); }
  uint64_t seed() override { return on_cpu_.seed(); }
  void set_state(const c10::TensorImpl& state) override { on_cpu_.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return on_cpu_.unsafeGetGeneratorImpl()->get_state();
  }

 private:
  EmulatedGenerator* clone_impl() const override { return new EmulatedGenerator(on_cpu_.clone()); }

  at::Generator on_cpu_;
};

}  // namespace

at::Generator new_generator() {
  return at::make_generator<EmulatedGenerator>(at::detail::createCPUGenerator());
}

const at::Generator& default_generator() {
  static const auto* generator = new at::Generator(new_generator());
  return *generator;
}

at::Generator cpu_generator(const at::Generator& generator) {
  TORCH_CHECK(generator.device().type() == kDeviceType, "Expected a '", kDeviceType,
              "' device type for generator but found '", generator.device(), "'");
  return static_cast<EmulatedGenerator*>(generator.unsafeGetGeneratorImpl())->on_cpu();
}

}  // namespace emulated
