// The card's physical memory: one range of host memory from which segments are taken, lowest address first.
//
// A page is written once, when the first segment reaches it, and stays mapped for the life of the process. So a copy
// to the device never pays for zero-filling its destination, as it does not on a GPU, and the page faults seen during
// a copy are those of its source alone (a fresh destination shows 26,000 of its own per 100 MB and hides them).
#pragma once

#include <cstddef>
#include <map>

namespace emulated {

class Arena {
 public:
  Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  size_t capacity() const { return capacity_; }
  bool contains(const void* address) const;

  // Touched memory of `size` bytes (a multiple of 512), or nullptr when no free range is that long.
  void* take(size_t size);
  void give_back(void* address, size_t size);

 private:
  void touch_up_to(size_t end);

  std::byte* base_;
  size_t capacity_;
  size_t touched_ = 0;
  std::map<size_t, size_t> free_;  // offset -> size; neighbours are always merged
};

}  // namespace emulated
