"""Ranges of mapped files, and the whole pages that belong to a set of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tracekit.capture.linux import PAGE


@dataclass(frozen=True, slots=True, order=True)
class MappedRange:
    """`size_bytes` at `address`, mapped from `offset` of the file `path`."""

    path: str
    offset: int
    address: int
    size_bytes: int


def merge(ranges: Iterable[MappedRange]) -> list[MappedRange]:
    """The same bytes as few ranges, by file and offset: neighbours in one mapping become one, overlaps count once."""
    merged: list[MappedRange] = []
    # The difference tells apart two mappings of one file.
    for here in sorted(ranges, key=lambda r: (r.path, r.address - r.offset, r.offset)):
        last = merged[-1] if merged else None
        if last and _mapping(last) == _mapping(here) and here.offset <= last.offset + last.size_bytes:
            size = max(last.size_bytes, here.offset + here.size_bytes - last.offset)
            merged[-1] = MappedRange(last.path, last.offset, last.address, size)
        else:
            merged.append(here)
    return merged


def whole_pages(ranges: Iterable[MappedRange]) -> list[MappedRange]:
    """The pages that these ranges fill together, without any that holds another byte of the file, too.

    A page in which one weight ends and the next begins is theirs when both are in `ranges`, and left out when only one
    is. So is the page shared with the file's header, and a last page that the file does not fill.
    """
    return list(_whole_pages(merge(ranges)))


def _whole_pages(merged: Iterable[MappedRange]) -> Iterator[MappedRange]:
    for bytes_ in merged:
        start = -(-bytes_.address // PAGE) * PAGE
        end = (bytes_.address + bytes_.size_bytes) // PAGE * PAGE
        if end > start:
            yield MappedRange(bytes_.path, bytes_.offset + start - bytes_.address, start, end - start)


def _mapping(of: MappedRange) -> tuple[str, int]:
    return of.path, of.address - of.offset
