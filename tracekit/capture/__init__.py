"""Observe a running pipeline: patches that record spans and copies, and the collectors of what the device did."""
