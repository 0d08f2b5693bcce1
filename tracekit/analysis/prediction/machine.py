"""A machine of three resources (host thread, compute stream, copy engine) that works a schedule off in order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Machine:
    """When each resource is free again, in ns since the start, and for how long it was busy.

    The host issues everything, in program order. What it waits for is said by each call; nothing overlaps that the
    calls do not let overlap. `in_place`: there is no device, and the host computes what it launches.
    """

    in_place: bool = False
    host: float = 0.0
    compute: float = 0.0
    link: float = 0.0
    host_busy: float = 0.0
    compute_busy: float = 0.0
    link_busy: float = 0.0

    @property
    def now(self) -> float:
        """When everything issued so far is done."""
        return max(self.host, self.compute, self.link)

    def work(self, host_ns: float, device_ns: float = 0.0) -> None:
        """Host code that launches kernels for `device_ns` as it goes: they end no sooner than the last is launched."""
        begin = self.host
        self.host += host_ns
        self.host_busy += host_ns
        if device_ns:
            if self.in_place:
                self.host = self.compute = self.host + device_ns
            else:
                self.compute = max(max(self.compute, begin) + device_ns, self.host)
            self.compute_busy += device_ns

    def copy(self, link_ns: float, host_ns: float = 0.0) -> None:
        """A copy in the order of the compute stream, whose end the host awaits; `host_ns` is what the call adds."""
        self.host_busy += host_ns
        self.link = max(self.host + host_ns, self.compute, self.link) + link_ns
        self.link_busy += link_ns
        self.host = self.compute = self.link

    def copy_ahead(self, link_ns: float, host_ns: float = 0.0) -> None:
        """A copy on a stream of its own: the call returns once it is issued."""
        self.host += host_ns
        self.host_busy += host_ns
        self.link = max(self.host, self.link) + link_ns
        self.link_busy += link_ns

    def wait_link(self) -> None:
        """The host waits for the copies issued so far."""
        self.host = max(self.host, self.link)

    def wait_compute(self) -> None:
        """The host waits for the kernels launched so far."""
        self.host = max(self.host, self.compute)
