"""Proof that a trace opens in the real viewers: Perfetto's engine and UI, chrome://tracing, all offline."""
