#include "arena.h"

#include <c10/util/Exception.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>

namespace emulated {

namespace {

size_t page_size() {
  return static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// A card as large as the host's own memory: the real limit is either that or the cap that the user sets.
size_t physical_memory() {
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * page_size();
}

}  // namespace

Arena::Arena() : capacity_(physical_memory()) {
  // NORESERVE: only address space is taken here, memory follows as segments touch it.
  void* base =
      mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TORCH_CHECK(base != MAP_FAILED, "the emulated device cannot reserve ", capacity_,
              " bytes of address space (is there a ulimit -v?): ", std::strerror(errno));
  base_ = static_cast<std::byte*>(base);
  free_.emplace(0, capacity_);
}

bool Arena::contains(const void* address) const {
  const auto* byte = static_cast<const std::byte*>(address);
  return byte >= base_ && byte < base_ + capacity_;
}

void* Arena::take(size_t size) {
  for (auto range = free_.begin(); range != free_.end(); ++range) {
    const auto [offset, length] = *range;
    if (length < size) {
      continue;
    }
    free_.erase(range);
    if (length > size) {
      free_.emplace(offset + size, length - size);
    }
    touch_up_to(offset + size);
    return base_ + offset;
  }
  return nullptr;
}

void Arena::give_back(void* address, size_t size) {
  size_t offset = static_cast<size_t>(static_cast<std::byte*>(address) - base_);
  auto next = free_.lower_bound(offset);
  if (next != free_.end() && next->first == offset + size) {
    size += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    auto previous = std::prev(next);
    if (previous->first + previous->second == offset) {
      previous->second += size;
      return;
    }
  }
  free_.emplace(offset, size);
}

// Segments are taken lowest address first, so everything below the highest end so far has been touched already.
void Arena::touch_up_to(size_t end) {
  for (; touched_ < end; touched_ += page_size()) {
    *reinterpret_cast<volatile std::byte*>(base_ + touched_) = std::byte{0};
  }
}

}  // namespace emulated
