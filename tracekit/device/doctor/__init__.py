"""What this machine can and cannot measure, each check a small function that returns a `MachineCheck`."""

from tracekit.device.doctor.examine import can_profile, examine

__all__ = ["can_profile", "examine"]
