// Attention picks its algorithm by device: the emulated one takes the CPU's choice, so that it computes the CPU's bits,
// and does not hold whole attention matrices as the generic formula would.

#include <ATen/native/transformers/attention.h>
#include <ATen/ops/_fused_sdp_choice.h>

#include "cpu_view.h"

namespace emulated {

namespace {

int64_t choose_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const std::optional<at::Tensor>& mask, double dropout, bool is_causal,
                         std::optional<double> scale, bool enable_gqa) {
  const auto cpu_mask = mask ? std::optional(cpu_view(*mask)) : std::nullopt;
  return at::_fused_sdp_choice(cpu_view(query), cpu_view(key), cpu_view(value), cpu_mask, dropout, is_causal, scale,
                               enable_gqa);
}

}  // namespace

}  // namespace emulated

namespace at::native {

// The macro has to be used in the stub's own namespace.
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &emulated::choose_attention)

}  // namespace at::native
