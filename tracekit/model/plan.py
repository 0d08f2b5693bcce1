"""What a plan is made of: configurations of offloading, what each is predicted to take, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tracekit.model.finding import Finding

TYPICAL_STEPS = 28
"""What Flux is usually run with: where one number of steps must stand for all, this one does."""


class Configuration(msgspec.Struct, kw_only=True, frozen=True):
    """One way to offload a pipeline, with the options of `tracekit.offload.options.OffloadOptions` that change time.

    `resident` are the dotted names (component included) of the parameters that partial offload keeps on the device,
    sorted. `weight_scale` is the size of floating-point weights against the profiled run's: 0.5 for half the bytes.
    """

    mode: str
    host_memory: str = "as-loaded"
    resident: tuple[str, ...] = ()
    group_level: str = "leaf_level"
    blocks_per_group: int = 1
    stream: bool = False
    record_stream: bool = False
    low_cpu_mem: bool = False
    weight_scale: float = 1.0

    @property
    def name(self) -> str:
        """What a table calls it."""
        words = [self.mode]
        if self.mode == "group":
            words.append("leaf" if self.group_level == "leaf_level" else "block")
            if self.group_level == "block_level" and self.blocks_per_group > 1:
                words.append(f"of {self.blocks_per_group}")
            flags = {"stream": self.stream, "record_stream": self.record_stream, "low_cpu_mem": self.low_cpu_mem}
            words += [flag for flag, is_set in flags.items() if is_set]
        if self.host_memory != "as-loaded":
            words.append(self.host_memory)
        if self.weight_scale != 1:
            words.append(f"{self.weight_scale:.2g}x bytes")
        return ", ".join([" ".join(words[:2]), *words[2:]]) if self.mode == "group" else ", ".join(words)


class Estimate(msgspec.Struct, frozen=True):
    """A predicted quantity (ns or bytes): what is expected, and between which bounds the measured spreads put it."""

    value: int
    low: int
    high: int

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, count: int) -> Estimate:
        """The estimate of `count` of them, which vary together."""
        return Estimate(self.value * count, self.low * count, self.high * count)

    def less(self, other: Estimate) -> Estimate:
        """The difference of two that vary together: of the same machine, as fast or as slow for both."""
        ends = (self.low - other.low, self.value - other.value, self.high - other.high)
        return Estimate(ends[1], min(ends), max(ends))


class Traffic(msgspec.Struct, frozen=True):
    """Weight copies between host and device: how many, and their bytes."""

    h2d_copies: int = 0
    h2d_bytes: int = 0
    d2h_copies: int = 0
    d2h_bytes: int = 0

    def less(self, before: Traffic) -> Traffic:
        """What was copied since."""
        return Traffic(
            self.h2d_copies - before.h2d_copies,
            self.h2d_bytes - before.h2d_bytes,
            self.d2h_copies - before.d2h_copies,
            self.d2h_bytes - before.d2h_bytes,
        )


class Prediction(msgspec.Struct, kw_only=True):
    """What one configuration takes: times ns, sizes bytes.

    `setup_ns` has loading in it. `device_bytes` is the peak of what the allocator holds in tensors; `host_bytes` the
    host memory of the weights: at least what the kernel cannot drop, since no file backs it, and at most that beside
    all that was loaded; `locked_bytes` is the part that is page-locked. `traffic` is by the names of the times. `notes`
    say what this run has no evidence for.
    """

    configuration: Configuration
    setup_ns: Estimate
    encode_ns: Estimate
    first_step_ns: Estimate
    warm_step_ns: Estimate
    decode_ns: Estimate
    device_bytes: Estimate
    host_bytes: Estimate
    locked_bytes: int
    traffic: dict[str, Traffic]
    notes: list[str]

    def total_ns(self, steps: int) -> Estimate:
        """The whole of one run of so many steps, set-up included; zero steps are set-up, encode and decode."""
        around = self.setup_ns + self.encode_ns + self.decode_ns
        return around if steps < 1 else around + self.first_step_ns + self.warm_step_ns.times(steps - 1)

    def missing_bytes(self, vram_bytes: int | None, ram_bytes: int | None) -> tuple[int, int]:
        """By how much it does not fit into device and host memory: 0 where it does, and where no limit is known."""
        device, host = self.device_bytes.high, self.host_bytes.low
        return (
            max(device - vram_bytes, 0) if vram_bytes else 0,
            max(host - ram_bytes, 0) if ram_bytes else 0,
        )


class PlanRow(msgspec.Struct, kw_only=True):
    """One configuration in a plan.

    `missing_device_bytes` and `missing_host_bytes` say by how much it does not fit (0: it fits); `reason` why it cannot
    be predicted from this run, where `prediction` is None. `totals` has the total by number of steps. `code` sets the
    configuration up in the user's own program.
    """

    configuration: Configuration
    prediction: Prediction | None
    totals: dict[int, Estimate]
    missing_device_bytes: int = 0
    missing_host_bytes: int = 0
    reason: str = ""
    code: str = ""

    @property
    def fits(self) -> bool:
        """Whether it is predicted to fit under the caps."""
        return self.prediction is not None and not self.missing_device_bytes and not self.missing_host_bytes


class BreakEven(msgspec.Struct, kw_only=True):
    """From how many steps `later` is ahead of `sooner` (None: never), and what it can save at most of a warm step.

    `steps_low` and `steps_high` bound the number of steps as the warm steps' spreads do (None: no bound).
    """

    sooner: str
    later: str
    steps: int | None
    steps_low: int | None
    steps_high: int | None
    saved_per_step_ns: Estimate
    saved_share: float


class ResidentModule(msgspec.Struct, kw_only=True):
    """One module that a resident set keeps, with what that saves of each warm step."""

    fqn: str
    size_bytes: int
    saved_ns: int


class Residents(msgspec.Struct, kw_only=True):
    """Which modules to keep on the device, the most saved time per byte first, and why so many.

    `room_bytes` is what the cap leaves for them beside activations and what is streamed; `saved_ns` of a warm step.
    """

    modules: list[ResidentModule]
    size_bytes: int
    room_bytes: int
    saved_ns: int
    reason: str


class Limit(msgspec.Struct, kw_only=True):
    """What no configuration can beat on this machine: a warm step takes at least the larger of the two (ns).

    `link_ns` is `streamed_bytes` at the pinned ceiling (None: it was not measured), where `kept_bytes` of the
    denoiser's weights stay on the device, as many as the cap has room for.
    """

    compute_ns: int
    link_ns: int | None
    streamed_bytes: int
    kept_bytes: int

    @property
    def step_ns(self) -> int:
        """The limit of a warm step."""
        return max(self.compute_ns, self.link_ns or 0)


class VerifiedRow(msgspec.Struct, kw_only=True):
    """One quantity of one configuration, predicted and then measured (ns or bytes); `error` is signed, against it."""

    configuration: str
    quantity: str
    predicted: Estimate
    measured: int
    error: float


class Drift(msgspec.Struct, kw_only=True):
    """How fast the machine was while a configuration was run: by piece of work, against the profiled run (1.2: slower).

    Both processes measured it before they ran (`tracekit.analysis.drift`). `host` is how many times as long the same
    Python took in its warm steps as in the profiled run's (None: not timed), and `warm_step` what is predicted of them
    for a host so much slower, beside what was measured.
    """

    configuration: str
    slower: dict[str, float]
    host: float | None = None
    warm_step: VerifiedRow | None = None


class OffloadPlan(msgspec.Struct, kw_only=True):
    """Everything that is shown of a plan, in display order.

    `vram_bytes` and `ram_bytes` are the caps (None: not known). `best` is the name of the fastest that fits, by number
    of steps. `findings` are what to change in the run within the caps. `measured` is the profiled run's own
    configuration. `drifts` has one entry for each configuration that was `verified`.
    """

    path: str
    workload: str
    measured: str
    emulated: bool
    vram_bytes: int | None
    ram_bytes: int | None
    steps: list[int]
    rows: list[PlanRow]
    best: dict[int, str]
    break_even: list[BreakEven]
    residents: Residents | None
    limit: Limit | None
    assumptions: list[str]
    notes: list[str]
    verified: list[VerifiedRow] = []
    drifts: list[Drift] = []
    findings: list[Finding] = []

    def add_verified(self, rows: Sequence[VerifiedRow], drift: Drift) -> None:
        """Take what a configuration took when it was run, in place of what an earlier run of it took."""
        name = drift.configuration
        self.verified = [*(row for row in self.verified if row.configuration != name), *rows]
        self.drifts = [*(other for other in self.drifts if other.configuration != name), drift]

    def keep_verified(self, earlier: OffloadPlan) -> None:
        """Take over what an earlier plan of the same run verified, of each configuration that both predict alike.

        Under another cap one of the same name may keep other modules on the device.
        """
        before, now = ({row.configuration.name: row.prediction for row in plan.rows} for plan in (earlier, self))
        for drift in earlier.drifts:
            if before.get(drift.configuration) == now.get(drift.configuration):
                rows = [row for row in earlier.verified if row.configuration == drift.configuration]
                self.add_verified(rows, drift)
