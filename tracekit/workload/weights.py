"""Write a model's random weights as safetensors shards, tensor by tensor, without ever holding the model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

BytesWritten = Callable[[int], None]
"""Called with the number of bytes just written."""

# A prime, so that no row length of a weight divides it: rows repeat nowhere near each other. About 17 MB in
# bfloat16, which stays in most last-level caches while it is written over and over.
_POOL_ELEMENTS = 8_388_593
# Also a prime: where the next tensor starts in the pool.
_POOL_STRIDE = 1_299_709
# Unit gain at a width of 2500, between the tiny models' and T5-XXL's: activations stay finite in all of them.
_WEIGHT_STD = 0.02
_SEED = 0

_SAFETENSORS_DTYPE = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to write: its name in the checkpoint, its shape and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size_bytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_gain(self) -> bool:
        """Whether it scales a normalised activation, so that it must be near one."""
        return self.name.endswith(".gamma") or (len(self.shape) == 1 and self.name.endswith("weight"))


def tensor_specs(model: torch.nn.Module, dtype: torch.dtype) -> list[TensorSpec]:
    """What the model's checkpoint holds, tied weights once, in the order of its modules; it may be on `meta`."""
    seen: set[int] = set()
    specs = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if not tensor.is_floating_point():
            raise TypeError(f"{name} is {tensor.dtype}: only floating-point tensors can be filled with random values")
        specs.append(TensorSpec(name, tuple(tensor.shape), dtype))
    return specs


class RandomPool:
    """Random bytes of one dtype, recycled: the same seed and order of tensors give the same files."""

    def __init__(self, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(_SEED)
        values = torch.randn(_POOL_ELEMENTS, generator=generator).mul_(_WEIGHT_STD)
        self._random = _bytes_of(values.to(dtype))
        self._ones = _bytes_of(torch.ones(1 << 16, dtype=dtype))
        self._itemsize = dtype.itemsize
        self._position = 0

    def pieces(self, spec: TensorSpec) -> Iterator[memoryview]:
        """The tensor's bytes, in as few pieces as there are."""
        if spec.is_gain:
            source, start = self._ones, 0
        else:
            source, start = self._random, self._position * self._itemsize
            self._position = (self._position + _POOL_STRIDE) % _POOL_ELEMENTS
        left = spec.size_bytes
        while left:
            piece = source[start : start + left]
            yield piece
            left -= len(piece)
            start = 0


def write_random_weights(
    directory: Path, stem: str, specs: Sequence[TensorSpec], max_shard_bytes: int, written: BytesWritten
) -> None:
    """Write `specs` to ``stem.safetensors``, or to numbered shards and their index where one file would be too large.

    Names and index are those that diffusers and transformers write, so that both load it like any checkpoint.
    """
    pool = RandomPool(specs[0].dtype)
    shards = _split(specs, max_shard_bytes)
    if len(shards) == 1:
        _write_shard(directory / f"{stem}.safetensors", shards[0], pool, written)
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file_name = f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_shard(directory / file_name, shard, pool, written)
        weight_map.update(dict.fromkeys((spec.name for spec in shard), file_name))
    index = {"metadata": {"total_size": sum(spec.size_bytes for spec in specs)}, "weight_map": weight_map}
    (directory / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _split(specs: Sequence[TensorSpec], max_shard_bytes: int) -> list[list[TensorSpec]]:
    shards: list[list[TensorSpec]] = [[]]
    filled = 0
    for spec in specs:
        if shards[-1] and filled + spec.size_bytes > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(spec)
        filled += spec.size_bytes
    return shards


def _write_shard(path: Path, specs: Sequence[TensorSpec], pool: RandomPool, written: BytesWritten) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(_header(specs))
        for spec in specs:
            for piece in pool.pieces(spec):
                _write_all(file, piece, written)


def _header(specs: Sequence[TensorSpec]) -> bytes:
    """The file's start as safetensors defines it: length, JSON, spaces up to a multiple of 8 bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for spec in specs:
        entries[spec.name] = {
            "dtype": _SAFETENSORS_DTYPE[spec.dtype],
            "shape": spec.shape,
            "data_offsets": (offset, offset + spec.size_bytes),
        }
        offset += spec.size_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_all(file: BinaryIO, piece: memoryview, written: BytesWritten) -> None:
    # An unbuffered write may take less than it was given.
    while piece:
        count = file.write(piece)
        written(count)
        piece = piece[count:]


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return tensor.view(torch.uint8).numpy().data
