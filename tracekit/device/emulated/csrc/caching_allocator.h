// Device memory as torch's CUDA caching allocator hands it out, and the books that it keeps.
//
// The rules are those of c10/cuda/CUDACachingAllocator.cpp: requests are rounded to 512 bytes; up to 1 MiB they share
// 2 MiB segments, below 10 MiB 20 MiB segments, above that a segment is the request rounded to 2 MiB; freed blocks are
// kept, split and merged. "Allocated" is the bytes of live blocks, "reserved" those of all segments, and the cap limits
// reserved memory, after cached segments were given up. One rule is kinder: where only a smaller segment fits under
// the cap, a smaller segment is taken, so that small caps are exact.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>

#include <cstddef>
#include <mutex>
#include <optional>
#include <set>
#include <unordered_map>

#include "arena.h"

namespace emulated {

struct MemoryState {
  int64_t allocated_bytes;
  int64_t reserved_bytes;
  int64_t peak_allocated_bytes;
  int64_t peak_reserved_bytes;
  std::optional<int64_t> cap_bytes;
};

class CachingAllocator final : public c10::DeviceAllocator {
 public:
  // Never destroyed: tensors that outlive static destruction at exit still free their memory into it.
  static CachingAllocator& instance();

  // A block whose torch device is `owner`: the emulated device's, or the CPU's while a kernel runs (kernel_scope.h).
  c10::DataPtr allocate_for(c10::Device owner, size_t size);
  void free(void* address);
  bool owns(const void* address) const { return arena_.contains(address); }

  MemoryState state();
  void set_cap(std::optional<size_t> bytes);

  // c10::Allocator and c10::DeviceAllocator.
  c10::DataPtr allocate(size_t size) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* destination, const void* source, size_t size) const override;
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t pool = {0, 0}) override;
  void recordStream(const c10::DataPtr& data, c10::Stream stream) override;
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override;
  void resetAccumulatedStats(c10::DeviceIndex device) override;
  void resetPeakStats(c10::DeviceIndex device) override;
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override;

 private:
  // A piece of a segment; the pieces of one segment are a list in address order.
  struct Block {
    std::byte* address;
    size_t size;
    bool is_small;
    Block* previous = nullptr;
    Block* next = nullptr;
  };
  struct BySizeThenAddress {
    bool operator()(const Block* left, const Block* right) const {
      return left->size != right->size ? left->size < right->size : left->address < right->address;
    }
  };
  using FreeBlocks = std::set<Block*, BySizeThenAddress>;

  CachingAllocator() = default;

  // All of these expect mutex_ to be held.
  FreeBlocks& free_blocks(bool is_small) { return is_small ? small_free_ : large_free_; }
  size_t limit() const;
  Block* take_cached(size_t size, bool is_small);
  Block* take_new_segment(size_t size, bool is_small);
  Block* try_segment(size_t size, bool is_small);
  void split(Block* block, size_t size);
  Block* merge_with_free_neighbours(Block* block);
  Block* absorb(Block* block, Block* neighbour);
  void release_cached_segments();
  [[noreturn]] void raise_out_of_memory(size_t size);

  std::mutex mutex_;
  Arena arena_;
  FreeBlocks small_free_;
  FreeBlocks large_free_;
  std::unordered_map<void*, Block*> live_;
  std::optional<size_t> cap_;
  c10::CachingDeviceAllocator::DeviceStats stats_;
};

}  // namespace emulated
