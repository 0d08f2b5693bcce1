"""Sizes as users type them, and stored integers as texts for people."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.errors import UsageError
from tracekit.units import (
    GIB,
    NS_PER_S,
    DurationUnit,
    MemoryUnit,
    format_bytes,
    format_duration,
    format_memory,
    format_rate,
    format_share,
    gb_per_s,
    gb_per_s_column,
    gb_per_s_text,
    megabytes,
    parse_bytes,
    size_text,
    unbroken,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("12GB", 12 * 10**9), ("12 GiB", 12 * GIB), (".5mb", 500_000), (" 1.5 KiB ", 1536), ("7 B", 7), ("2tib", 2**41)],
)
def test_decimal_and_binary_sizes_are_never_confused(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@given(st.integers(1, 10**15))
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    assert parse_bytes(size_text(size)) == size


def test_a_size_is_written_in_the_unit_that_leaves_no_fraction() -> None:
    sizes = (12 * GIB, 12 * 10**9, 64 * 2**20, 1_000, 1_001)
    assert [size_text(size) for size in sizes] == ["12GiB", "12GB", "64MiB", "1KB", "1001B"]


@pytest.mark.parametrize("text", ["12", "GB", "-1 GB", "0 GB", "1e3 GB", "12 GBs", "1,5 GB", "", "0.1 B"])
def test_what_could_mean_two_things_or_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("value", "as_bytes", "as_memory", "as_duration"),
    [
        (0, "0 B", "0 B", "0 ns"),
        (999, "999 B", "999 B", "999 ns"),
        (999_600, "1.00 MB", "976 KiB", "1.00 ms"),
        (9_994, "9.99 kB", "9.76 KiB", "9.99 us"),
        (12 * GIB, "12.9 GB", "12.0 GiB", "12.9 s"),
        (10**15, "1000 TB", "909 TiB", "1000000 s"),
    ],
)
def test_three_digits_and_the_unit_that_fits(value: int, as_bytes: str, as_memory: str, as_duration: str) -> None:
    assert (format_bytes(value), format_memory(value), format_duration(value)) == (as_bytes, as_memory, as_duration)


def test_a_byte_a_nanosecond_is_a_gigabyte_a_second() -> None:
    assert gb_per_s(23_800_000_000, 4_000_000_000) == 5.95
    rates = {
        (5_950, 1_000): "5.95",
        (54_830, 1_000): "54.8",
        (123_456, 1_000): "123.5",
        (128, 10**5): "0.00",
        (5, 0): "-",
    }
    assert {rate: gb_per_s_text(*rate) for rate in rates} == rates


@pytest.mark.parametrize(
    ("size", "duration", "text"),
    [
        (5_950, 1_000, "5.95 GB/s"), (54_830, 1_000, "54.8 GB/s"), (128, 10**5, "1.28 MB/s"), (1, 10**6, "1.00 kB/s"),
        (0, 5, "0 B/s"), (5, 0, "-"),
    ],
)  # fmt: skip
def test_a_rate_has_the_unit_that_fits(size: int, duration: int, text: str) -> None:
    assert format_rate(size, duration) == text
    assert " " not in unbroken(text)


@given(st.lists(st.tuples(st.integers(-1, 10**12), st.integers(-1, 10**12)), max_size=8))
def test_a_column_of_rates_is_each_rows_rate(rows: list[tuple[int, int]]) -> None:
    sizes, durations = np.array(rows, np.int64).reshape(-1, 2).T
    expected = [gb_per_s(size, duration) if size >= 0 else math.nan for size, duration in rows]
    np.testing.assert_array_equal(gb_per_s_column(sizes, durations), np.array(expected))


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=5))
def test_parts_add_up_and_none_is_off_by_a_step(parts: list[int]) -> None:
    unit = DurationUnit.fitting(sum(parts))
    total, texts = unit.split(parts)
    numbers = [Decimal(text.replace(",", "")) for text in texts]
    assert sum(numbers) == Decimal(total.replace(",", ""))
    for number, part in zip(numbers, parts, strict=True):
        assert abs(number * unit.unit_ns - part) < unit.quantum_ns


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=5))
def test_quanta_are_what_the_texts_say(parts: list[int]) -> None:
    unit = DurationUnit.fitting(sum(parts))
    assert [unit.quanta_text(part) for part in unit.quanta(parts)] == unit.split(parts)[1]


def test_axes_have_the_unit_that_they_name() -> None:
    assert DurationUnit.fitting(2 * NS_PER_S).value(1_500_000_000) == 1.5
    assert DurationUnit.fitting(NS_PER_S - 1).text(1_234_567) == "1.23"
    assert MemoryUnit.fitting(GIB) == MemoryUnit("GiB", GIB)
    assert MemoryUnit.fitting(GIB - 1).value(2**21) == 2
    assert megabytes(2_500_000) == 2.5


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"), (0.004, "under 1%"), (0.01, "1%"), (0.605, "60%"), (0.994, "99%"), (0.998, "over 99%"),
        (1 - 2**-24, "100%"), (1, "100%"), (1.2, "120%"),
    ],
)  # fmt: skip
def test_a_share_that_is_there_is_never_nothing_nor_all_of_what_is_not(share: float, text: str) -> None:
    assert format_share(share) == text


def test_numbers_and_their_units_stay_together_and_all_else_as_it_is() -> None:
    text = "12.9 s of 23.8 GB at 7 GB/s, 3 steps, 4 spans, 12 min, 260 MiB; blocks.3 block, 2 B"
    joined = unbroken(text)
    assert joined.replace("\N{NO-BREAK SPACE}", " ") == text
    pieces = [
        "12.9_s",
        "of",
        "23.8_GB",
        "at",
        "7_GB/s,",
        "3",
        "steps,",
        "4",
        "spans,",
        "12_min,",
        "260_MiB;",
        "blocks.3",
    ]
    assert joined.replace("\N{NO-BREAK SPACE}", "_").split(" ") == [*pieces, "block,", "2_B"]
