"""Offload modes: which there are, what each can hold, whether it fits, and how to apply it to a pipeline.

`options` and `modes` import no torch, so that the command line can show and check them at once; `apply` does the work
with the public APIs of diffusers and accelerate.
"""
