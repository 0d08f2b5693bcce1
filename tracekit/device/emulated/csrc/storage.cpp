#include "storage.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "caching_allocator.h"
#include "link.h"

namespace emulated {

void resize_storage(const c10::Storage& storage, size_t bytes) {
  TORCH_CHECK(storage.resizable(), "Trying to resize storage that is not resizable");
  auto data = CachingAllocator::instance().allocate(bytes);
  if (const size_t kept = std::min(bytes, storage.nbytes()); kept > 0) {
    transfer(Direction::kDeviceToDevice, data.get(), storage.data(), kept);
  }
  auto* impl = storage.unsafeGetStorageImpl();
  impl->set_data_ptr_noswap(std::move(data));
  impl->set_nbytes(bytes);
}

}  // namespace emulated
