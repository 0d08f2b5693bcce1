"""What every prediction takes for granted, in sentences for its reader."""

from __future__ import annotations

from collections.abc import Sequence

ASSUMPTIONS: Sequence[str] = (
    "The machine, the picture's size, the page cache and what else runs are as they were in this run. First onloads of "
    "mmapped weights cost what they cost here, at set-up where the configuration touches them there; where the host "
    "copies them itself and nothing came from disk, what mapping their pages takes alone.",
    "diffusers 0.42 and accelerate 1.15 order copies, waits and forwards as they do today; each configuration's own "
    "order is worked off on three resources: the host thread, the compute stream, the copy engine.",
    "A warm step is the mean of the middle third of this run's warm steps: a disturbed one is in the range alone.",
    "A weight's warm copy takes what it took here from the same kind of host memory; from another kind, what the "
    "calibration took for its size. Copies back go into fresh memory; from the second on, into what the C library "
    "keeps of freed memory, unless blocks of that size go back to the kernel.",
    "Host code is slower among offload hooks than without any, and slower again where the host itself has just copied "
    "many bytes, its caches being full of them, or has waited for their copy, and in the modules behind that. All by "
    "what the calibration saw of hooks, of modules' own forwards and of the code between them.",
    "diffusers' group hooks take the host what the calibration saw of them, unless this run has groups.",
    "Moving a whole component takes the host, for each weight, what each adds to an onload hook here.",
    "Page-locking and cloning go at their calibrated rates. diffusers page-locks each weight rounded up to a power of "
    "two.",
    "Low and high take everything measured at its fastest and slowest warm step, or calibration sample, all at once; "
    "for host code and copies whichever is wider. What is cold in step 1 was measured once, and is given the spread of "
    "warm copies and host code. How fast the machine is at another time is not known.",
    "Device memory is weights by each mode's rules beside the activations of the same module in this run; its upper "
    "end takes the most of both, what the allocator may not split off and what its cache held. The CUDA context (about "
    "0.5 GiB) comes on top of it.",
)
