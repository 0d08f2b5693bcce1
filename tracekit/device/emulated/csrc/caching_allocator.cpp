#include "caching_allocator.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iomanip>
#include <sstream>
#include <string>

#include "device_type.h"

namespace emulated {

namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kGranule = 512;
constexpr size_t kLargestSmallBlock = kMiB;
constexpr size_t kSmallSegment = 2 * kMiB;
constexpr size_t kSmallestOwnSegment = 10 * kMiB;
constexpr size_t kLargeSegment = 20 * kMiB;
constexpr size_t kSegmentGranule = 2 * kMiB;
constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

size_t round_up(size_t size, size_t granule) {
  return (size + granule - 1) / granule * granule;
}

size_t segment_size(size_t block_size) {
  if (block_size <= kLargestSmallBlock) {
    return kSmallSegment;
  }
  return block_size < kSmallestOwnSegment ? kLargeSegment : round_up(block_size, kSegmentGranule);
}

// What is left of a block is worth keeping apart: any piece of a small one, more than 1 MiB of a large one.
bool should_split(size_t rest, bool is_small) {
  return is_small ? rest >= kGranule : rest > kLargestSmallBlock;
}

std::string readable(size_t bytes) {
  constexpr std::array<const char*, 4> kUnits = {" bytes", " KiB", " MiB", " GiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) {
    value /= 1024;
  }
  std::ostringstream text;
  text << std::fixed << std::setprecision(unit == 0 ? 0 : 2) << value << kUnits[unit];
  return text.str();
}

void free_block(void* address) {
  CachingAllocator::instance().free(address);
}

void free_nothing(void*) {}

}  // namespace

CachingAllocator& CachingAllocator::instance() {
  static auto* allocator = new CachingAllocator();
  return *allocator;
}

REGISTER_ALLOCATOR(kDeviceType, &CachingAllocator::instance());

c10::DataPtr CachingAllocator::allocate(size_t size) {
  return allocate_for(device(), size);
}

c10::DataPtr CachingAllocator::allocate_for(c10::Device owner, size_t size) {
  if (size == 0) {
    return {nullptr, nullptr, &free_nothing, owner};
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  const size_t rounded = round_up(size, kGranule);
  const bool is_small = rounded <= kLargestSmallBlock;
  Block* block = take_cached(rounded, is_small);
  if (block == nullptr) {
    block = take_new_segment(rounded, is_small);
  }
  if (block == nullptr) {
    raise_out_of_memory(size);
  }
  if (should_split(block->size - rounded, is_small)) {
    split(block, rounded);
  }
  live_.emplace(block->address, block);
  stats_.allocated_bytes[kAll].increase(block->size);
  stats_.active_bytes[kAll].increase(block->size);
  stats_.allocation[kAll].increase(1);
  // The context is the address itself, so that a deleter without state finds the block again.
  return {block->address, block->address, &free_block, owner};
}

void CachingAllocator::free(void* address) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto entry = live_.find(address);
  TORCH_INTERNAL_ASSERT(entry != live_.end(), "not a live block of the emulated device");
  Block* block = entry->second;
  live_.erase(entry);
  stats_.allocated_bytes[kAll].decrease(block->size);
  stats_.active_bytes[kAll].decrease(block->size);
  stats_.allocation[kAll].decrease(1);
  block = merge_with_free_neighbours(block);
  free_blocks(block->is_small).insert(block);
}

CachingAllocator::Block* CachingAllocator::take_cached(size_t size, bool is_small) {
  auto& cached = free_blocks(is_small);
  Block wanted{nullptr, size, is_small};
  const auto best = cached.lower_bound(&wanted);
  if (best == cached.end()) {
    return nullptr;
  }
  Block* block = *best;
  cached.erase(best);
  return block;
}

CachingAllocator::Block* CachingAllocator::take_new_segment(size_t size, bool is_small) {
  if (Block* block = try_segment(segment_size(size), is_small)) {
    return block;
  }
  release_cached_segments();
  if (Block* block = try_segment(segment_size(size), is_small)) {
    return block;
  }
  return try_segment(size, is_small);
}

CachingAllocator::Block* CachingAllocator::try_segment(size_t size, bool is_small) {
  const auto reserved = static_cast<size_t>(stats_.reserved_bytes[kAll].current);
  if (reserved + size > limit()) {
    return nullptr;
  }
  void* address = arena_.take(size);
  if (address == nullptr) {
    return nullptr;
  }
  stats_.reserved_bytes[kAll].increase(size);
  stats_.segment[kAll].increase(1);
  stats_.num_device_alloc += 1;
  return new Block{static_cast<std::byte*>(address), size, is_small};
}

void CachingAllocator::split(Block* block, size_t size) {
  auto* rest = new Block{block->address + size, block->size - size, block->is_small, block, block->next};
  if (block->next != nullptr) {
    block->next->previous = rest;
  }
  block->next = rest;
  block->size = size;
  free_blocks(block->is_small).insert(rest);
}

CachingAllocator::Block* CachingAllocator::merge_with_free_neighbours(Block* block) {
  if (Block* next = block->next; next != nullptr && live_.count(next->address) == 0) {
    free_blocks(block->is_small).erase(next);
    block = absorb(block, next);
  }
  if (Block* previous = block->previous; previous != nullptr && live_.count(previous->address) == 0) {
    free_blocks(block->is_small).erase(previous);
    block = absorb(previous, block);
  }
  return block;
}

CachingAllocator::Block* CachingAllocator::absorb(Block* block, Block* next) {
  block->size += next->size;
  block->next = next->next;
  if (next->next != nullptr) {
    next->next->previous = block;
  }
  delete next;
  return block;
}

// The arena keeps the pages of what is given back: a GPU's memory has no first touch either (arena.h).
void CachingAllocator::release_cached_segments() {
  for (auto* cached : {&small_free_, &large_free_}) {
    for (auto entry = cached->begin(); entry != cached->end();) {
      Block* block = *entry;
      if (block->previous != nullptr || block->next != nullptr) {
        ++entry;
        continue;
      }
      entry = cached->erase(entry);
      arena_.give_back(block->address, block->size);
      stats_.reserved_bytes[kAll].decrease(block->size);
      stats_.segment[kAll].decrease(1);
      stats_.num_device_free += 1;
      delete block;
    }
  }
}

size_t CachingAllocator::limit() const {
  return std::min(cap_.value_or(arena_.capacity()), arena_.capacity());
}

void CachingAllocator::raise_out_of_memory(size_t size) {
  stats_.num_ooms += 1;
  const auto allocated = static_cast<size_t>(stats_.allocated_bytes[kAll].current);
  const auto reserved = static_cast<size_t>(stats_.reserved_bytes[kAll].current);
  const auto cap = cap_ ? readable(*cap_) + " allowed; " : std::string();
  TORCH_CHECK_WITH(OutOfMemoryError, false, "Emulated device out of memory. Tried to allocate ", readable(size),
                   ". Emulated device 0 has a total capacity of ", readable(arena_.capacity()), " of which ",
                   readable(limit() - std::min(limit(), reserved)), " is free. ", cap, "Of the allocated memory ",
                   readable(allocated), " is allocated by PyTorch, and ", readable(reserved - allocated),
                   " is reserved by PyTorch but unallocated.");
}

MemoryState CachingAllocator::state() {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto& allocated = stats_.allocated_bytes[kAll];
  const auto& reserved = stats_.reserved_bytes[kAll];
  MemoryState state{allocated.current, reserved.current, allocated.peak, reserved.peak, std::nullopt};
  if (cap_) {
    state.cap_bytes = static_cast<int64_t>(*cap_);
  }
  return state;
}

void CachingAllocator::set_cap(std::optional<size_t> bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  cap_ = bytes;
}

c10::DeleterFnPtr CachingAllocator::raw_deleter() const {
  return &free_block;
}

void CachingAllocator::copy_data(void* destination, const void* source, size_t size) const {
  default_copy_data(destination, source, size);
}

void CachingAllocator::emptyCache(c10::MempoolId_t) {
  const std::lock_guard<std::mutex> lock(mutex_);
  release_cached_segments();
}

void CachingAllocator::recordStream(const c10::DataPtr&, c10::Stream) {
  // Every operation has ended when its call returns, so no stream can still be using a block.
}

c10::CachingDeviceAllocator::DeviceStats CachingAllocator::getDeviceStats(c10::DeviceIndex) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

void CachingAllocator::resetAccumulatedStats(c10::DeviceIndex) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto* stat : {&stats_.allocation, &stats_.segment, &stats_.allocated_bytes, &stats_.reserved_bytes,
                     &stats_.active_bytes}) {
    (*stat)[kAll].reset_accumulated();
  }
  stats_.num_device_alloc = stats_.num_device_free = stats_.num_ooms = 0;
}

void CachingAllocator::resetPeakStats(c10::DeviceIndex) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto* stat : {&stats_.allocation, &stats_.segment, &stats_.allocated_bytes, &stats_.reserved_bytes,
                     &stats_.active_bytes}) {
    (*stat)[kAll].reset_peak();
  }
}

// Free is what can still be reserved: a cap plays a smaller card.
std::pair<size_t, size_t> CachingAllocator::getMemoryInfo(c10::DeviceIndex) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto reserved = static_cast<size_t>(stats_.reserved_bytes[kAll].current);
  return {limit() - std::min(limit(), reserved), arena_.capacity()};
}

}  // namespace emulated
