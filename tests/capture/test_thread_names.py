"""A thread is found under the number that Kineto gives it."""

from __future__ import annotations

import ctypes

from hypothesis import given
from hypothesis import strategies as st

from tracekit.capture.threadstate import kineto_thread_id


@given(st.integers(0, 2**64 - 1))
def test_it_is_the_absolute_value_of_the_low_half_as_a_signed_number(ident: int) -> None:
    assert kineto_thread_id(ident) == abs(ctypes.c_int32(ident & 0xFFFFFFFF).value)


def test_a_thread_seen_on_a_gpu() -> None:
    assert kineto_thread_id(0x7F472E0F_8000) == 0x2E0F_8000
    assert kineto_thread_id(0x7F47_F000_0000) == 0x1000_0000
