// Growing and shrinking a device storage in place.
#pragma once

#include <c10/core/Storage.h>

#include <cstddef>

namespace emulated {

// Keeps the content, as far as it fits.
void resize_storage(const c10::Storage& storage, size_t bytes);

}  // namespace emulated
