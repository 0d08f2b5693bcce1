"""Which device is meant, what it is, and the emulated accelerator for machines without a GPU."""
