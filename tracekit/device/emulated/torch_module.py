"""`torch.emulated`: what torch, diffusers, accelerate and transformers expect of a device module, with real figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

import torch

from tracekit.device.emulated.device import EmulatedDevice

Device = torch.device | str | int | None


class EmulatedModule(ModuleType):
    """The functions of `torch.cuda` that make sense on the emulated device, by the same names; sizes in bytes.

    Every operation ends before its call returns, so synchronising has nothing to wait for, and streams and events,
    which would have nothing to overlap, are refused.
    """

    def __init__(self, extension: ModuleType) -> None:
        super().__init__("torch.emulated", "The emulated accelerator.")
        self._extension = extension

    # --- the device itself -------------------------------------------------------------------------------------

    def is_available(self) -> bool:
        """Whether the device can be used: it is loaded, so it can."""
        return True

    def is_initialized(self) -> bool:
        """Whether the device has been set up: loading did."""
        return True

    def _lazy_init(self) -> None:
        """Torch's generated methods call it before they touch the device."""

    def _is_in_bad_fork(self) -> bool:
        """Torch asks before it seeds; a fork gets a copy of the device's memory, so none is bad."""
        return False

    def device_count(self) -> int:
        """One."""
        return 1

    def current_device(self) -> int:
        """The index 0."""
        return 0

    def set_device(self, device: Device) -> None:
        """Accept the one device there is; RuntimeError for another index."""
        _check_index(device)

    @contextmanager
    def device(self, device: Device) -> Iterator[None]:
        """The context manager that torch's deserialisation enters; there is one device to choose."""
        _check_index(device)
        yield

    def get_device_name(self, device: Device = None) -> str:
        """What plays the device."""
        _check_index(device)
        return EmulatedDevice.name

    def synchronize(self, device: Device = None) -> None:
        """Return at once: nothing is ever pending."""
        _check_index(device)

    # --- memory ------------------------------------------------------------------------------------------------

    def empty_cache(self) -> None:
        """Give cached segments back: reserved falls, and their pages stay touched for the next segment.

        A GPU's memory has no first touch either; and a page that had to be zero-filled again during a copy would look
        like paging of the copy's source.
        """
        self._extension.empty_cache()

    def memory_allocated(self, device: Device = None) -> int:
        """Bytes of live blocks."""
        _check_index(device)
        return int(self._extension.memory()[0])

    def memory_reserved(self, device: Device = None) -> int:
        """Bytes of all segments, cached ones included."""
        _check_index(device)
        return int(self._extension.memory()[1])

    def max_memory_allocated(self, device: Device = None) -> int:
        """The peak of `memory_allocated` since the last reset."""
        _check_index(device)
        return int(self._extension.memory()[2])

    def max_memory_reserved(self, device: Device = None) -> int:
        """The peak of `memory_reserved` since the last reset."""
        _check_index(device)
        return int(self._extension.memory()[3])

    def reset_peak_memory_stats(self, device: Device = None) -> None:
        """Make the peaks the present values."""
        _check_index(device)
        self._extension.reset_peak()

    def mem_get_info(self, device: Device = None) -> tuple[int, int]:
        """Bytes that can still be reserved (under the cap, if one is set), and the device's total."""
        _check_index(device)
        free, total = self._extension.memory_info()
        return int(free), int(total)

    # --- random numbers ----------------------------------------------------------------------------------------

    def manual_seed(self, seed: int) -> None:
        """Seed the device's default generator."""
        self._default_generator().manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        """`torch.manual_seed` calls it."""
        self.manual_seed(seed)

    def get_rng_state(self, device: Device = None) -> torch.Tensor:
        """The default generator's state."""
        _check_index(device)
        return self._default_generator().get_state()

    def set_rng_state(self, new_state: torch.Tensor, device: Device = None) -> None:
        """Restore what `get_rng_state` returned."""
        _check_index(device)
        self._default_generator().set_state(new_state)

    def _default_generator(self) -> torch.Generator:
        generator: torch.Generator = self._extension.default_generator()
        return generator

    # --- what the device does not have -------------------------------------------------------------------------

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """No dtype: torch asks when autocast is entered, even switched off."""
        return []

    def Stream(self, *args: object, **kwargs: object) -> NoReturn:  # noqa: N802 (torch's name, any arguments)
        """Refuse: there is nothing that a stream could overlap."""
        raise NotImplementedError("the emulated device has no streams: its operations end before their calls return")

    def Event(self, *args: object, **kwargs: object) -> NoReturn:  # noqa: N802 (torch's name, any arguments)
        """Refuse: there is nothing that an event could wait for."""
        raise NotImplementedError("the emulated device has no events: its operations end before their calls return")


def _check_index(device: Device) -> None:
    index = device if device is None or isinstance(device, int) else torch.device(device).index
    if index not in (None, 0):
        raise RuntimeError(f"there is one emulated device, emulated:0, not index {index}")
