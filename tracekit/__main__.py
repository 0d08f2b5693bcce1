"""Runs the command line as ``python -m tracekit``."""

import sys

from tracekit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
