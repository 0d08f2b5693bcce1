"""What collects records beside the patches: device records, allocator history, counters, Python frames."""

from __future__ import annotations

from tracekit.capture.copies import CopyTimer


class Collector:
    """Something that records around runs. Every method may be left as it is: it then does nothing.

    All are called from the profiled code's thread, between runs and at steps' ends, never inside a copy or a launch.
    """

    def prime(self) -> None:
        """Pay start-up costs now, so that they do not land in the first step, and record set-up from here on."""

    def run_begins(self) -> None:
        """A run is about to begin."""

    def step_ended(self) -> None:
        """A chance to hand over what is there."""

    def run_ended(self) -> None:
        """No run is open: write everything recorded so far."""

    def close(self) -> None:
        """Write the rest, and stop for good."""


class DeviceActivity(Collector):
    """A source of device records; this one is for where there is none, and copies have only their host times.

    Attributes:
        name: what the manifest calls the source.
        alignment_error_ns: how far device times may be off after mapping to our clock; None without a device clock.
        counts: what the manifest should know: records dropped, windows without marks.
        timer: what must be told of each copy, or None.
    """

    name = "none"

    def __init__(self) -> None:
        self.alignment_error_ns: int | None = None
        self.counts: dict[str, int] = {}
        self.timer: CopyTimer | None = None
