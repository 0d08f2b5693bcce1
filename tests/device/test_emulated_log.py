"""The operation log: agrees with the counters, is bounded and thread safe; and the link's throttle."""

from __future__ import annotations

import threading
import time
from collections import Counter

import torch

from tracekit.device.emulated import EmulatedDevice


def test_log_and_counters_agree(device: EmulatedDevice) -> None:
    device.start_log()
    device.reset_counters()
    layer = torch.nn.Linear(16, 16).to("emulated")
    with torch.no_grad():
        layer(torch.randn(4, 16, device="emulated").half().float()).relu_().clone().cpu()
    counters = device.counters()
    log = device.take_log()
    kinds = Counter((op.op, op.direction) for op in log)
    size_bytes = {way: sum(op.size_bytes for op in log if op.direction == way) for way in ("H2D", "D2H", "D2D")}
    assert kinds["memcpy", "H2D"] == counters.h2d_count == 2
    assert kinds["memcpy", "D2H"] == counters.d2h_count == 1
    assert kinds["memcpy", "D2D"] == counters.d2d_count == 1
    assert size_bytes == {"H2D": counters.h2d_bytes, "D2H": counters.d2h_bytes, "D2D": counters.d2d_bytes}
    assert kinds["kernel", ""] + kinds["memset", ""] == counters.kernel_count > 0
    assert device.take_log() == []


def test_records_carry_clock_thread_names_and_ids(device: EmulatedDevice) -> None:
    before_ns = time.monotonic_ns()
    device.start_log()
    host = torch.ones(100)
    on_device = host.to("emulated")
    result = torch.empty(100)
    result.copy_(on_device + 1)
    on_device.zero_()
    device.stop_log()
    after_ns = time.monotonic_ns()
    up, add, down, memset = device.take_log()
    assert (up.name, up.host_address) == ("Memcpy HtoD (Pageable -> Device)", host.data_ptr())
    assert (down.name, down.host_address) == ("Memcpy DtoH (Device -> Pageable)", result.data_ptr())
    assert (add.op, add.name, add.size_bytes, add.host_address) == ("kernel", "aten::add", 0, 0)
    assert memset.op == "memset"
    ops = (up, add, down, memset)
    moments = [before_ns, *(moment for op in ops for moment in (op.start_ns, op.end_ns)), after_ns]
    assert moments == sorted(moments)
    assert {op.thread_id for op in ops} == {threading.get_native_id()}
    assert len({op.correlation_id for op in ops}) == 4


def test_nothing_is_logged_while_it_is_off(device: EmulatedDevice) -> None:
    device.reset_counters()
    torch.ones(3).to("emulated")
    assert device.take_log() == []
    assert device.counters().h2d_count == 1


def test_views_are_no_kernels(device: EmulatedDevice) -> None:
    tensor = torch.ones(4, 6, device="emulated")
    device.reset_counters()
    tensor.t()[1:3].unfold(1, 2, 1)
    torch.view_as_complex(tensor.view(4, 3, 2))
    assert device.counters().kernel_count == 0


def test_a_full_log_drops_and_counts_while_counters_go_on(device: EmulatedDevice) -> None:
    device.start_log(capacity=3)
    device.reset_counters()
    for _ in range(5):
        torch.ones(2).to("emulated")
    assert device.dropped_ops == 2
    assert len(device.take_log()) == 3
    assert device.counters().h2d_count == 5
    torch.ones(2).to("emulated")
    assert len(device.take_log()) == 1, "taking makes room again"
    device.start_log()
    assert device.dropped_ops == 0


def test_threads_lose_no_record_and_no_byte(device: EmulatedDevice) -> None:
    device.start_log()
    device.reset_counters()
    threads, rounds, taken = 4, 200, []
    ids = set()

    def work() -> None:
        ids.add(threading.get_native_id())
        for size in range(1, rounds + 1):
            tensor = torch.full((size,), float(size)).to("emulated")
            assert (tensor + 1).sum().item() == size * (size + 1)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        taken.extend(device.take_log())
    taken.extend(device.take_log())
    copies = [op for op in taken if op.op == "memcpy"]
    expected_up = threads * sum(4 * size for size in range(1, rounds + 1))
    counters = device.counters()
    assert (counters.h2d_count, counters.h2d_bytes) == (threads * rounds, expected_up)
    assert counters.d2h_count == threads * rounds
    assert len(copies) == 2 * threads * rounds
    assert counters.kernel_count == len(taken) - len(copies) == 2 * threads * rounds
    assert {op.thread_id for op in taken} == ids
    assert len({op.correlation_id for op in taken}) == len(taken)


def test_throttled_copies_last_at_least_bytes_over_rate(device: EmulatedDevice) -> None:
    device.set_link_gbps(0.5)
    assert device.link_gbps == 0.5
    device.start_log()
    on_device = torch.ones(250_000).to("emulated")
    on_device.cpu()
    on_device.clone()
    up, down, inside = device.take_log()
    assert up.end_ns - up.start_ns >= 2_000_000
    assert down.end_ns - down.start_ns >= 2_000_000
    assert inside.direction == "D2D"
    device.set_link_gbps(None)
    assert device.link_gbps is None


def test_threads_share_a_throttled_link(device: EmulatedDevice) -> None:
    device.set_link_gbps(0.5)
    device.start_log()
    workers = [threading.Thread(target=lambda: torch.ones(250_000).to("emulated")) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    copies = device.take_log()
    assert max(op.end_ns for op in copies) - min(op.start_ns for op in copies) >= 6_000_000
