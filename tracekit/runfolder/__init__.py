"""The run folder, tracekit's hub: capture writes it, everything after capture reads only it.

A run folder holds `manifest.json` and one folder of Parquet parts a table. While the profile runs, rows are in
`spool/` instead, as fixed-size records that survive a killed process; `RunWriter.finish` turns them into Parquet.
"""

from tracekit.runfolder.paths import check_replaceable, default_run_path
from tracekit.runfolder.reader import read_run
from tracekit.runfolder.writer import RunWriter

__all__ = ["RunWriter", "check_replaceable", "default_run_path", "read_run"]
