#!/usr/bin/env python3
"""Write docs/schema.md, the page about a run folder's files, from the definitions in tracekit.model.

scripts/make_schema_doc.py
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path

from benchlib import markdown_table

from tracekit.model import SCHEMA_VERSION, TABLES, Direction, HostMemory, Manifest, SpanKind, Table

PAGE = Path(__file__).parents[1] / "docs" / "schema.md"
PARQUET_TYPES = {"i32": "int32", "i64": "int64", "f64": "float64", "str": "string", "bool": "bool"}
WORDS: tuple[type[StrEnum], ...] = (SpanKind, Direction, HostMemory)

INTRODUCTION = f"""\
# The run folder

Made by `scripts/make_schema_doc.py` from `tracekit/model/`; a test holds it to that. Schema version {SCHEMA_VERSION}.

A run folder holds `manifest.json`, one folder of Parquet files a table, and, unless it was left out, `trace.json.gz`.
Any tool that reads Parquet reads the tables:

    import pandas
    copies = pandas.read_parquet("runs/RUN/copies")

While the profile runs, its rows are in `spool/` instead, as fixed-size records. A killed process leaves them there:
`tracekit.load` reads both, plain Parquet readers only see folders of profiles that ended.

Times are integer nanoseconds of CLOCK_MONOTONIC (`_ns`), sizes integer bytes (`_bytes`). "No value" is null in Parquet;
in tracekit's data frames it is -1, an empty string or NaN. Phases, steps, and which copies are first or warm are not
stored: they are derived when the folder is read.
"""


def main() -> int:
    PAGE.write_text(schema_page())
    print(PAGE)
    return 0


def schema_page() -> str:
    """The page's text."""
    sections = [INTRODUCTION, manifest_section(), *(table_section(table) for table in TABLES.values())]
    words = markdown_table(["kind of word", "values"], [[f"`{kind.__name__}`", listed(kind)] for kind in WORDS])
    return "\n".join([*sections, f"## Words in columns\n\n{words}\n"])


def manifest_section() -> str:
    fields = ", ".join(f"`{name}`" for name in Manifest.__struct_fields__)
    about = " ".join((Manifest.__doc__ or "").partition("\n\n")[2].split()).replace("``", "`")
    return f"## manifest.json\n\n{about}\n\nIts fields: {fields}.\n"


def table_section(table: Table) -> str:
    rows = [
        [f"`{column.name}`", PARQUET_TYPES[column.kind], "yes" if column.nullable else "", column.doc]
        for column in table.columns
    ]
    return f"## {table.name}\n\n{table.doc}\n\n{markdown_table(['column', 'type', 'may be null', 'meaning'], rows)}\n"


def listed(kind: type[StrEnum]) -> str:
    return ", ".join(f"`{word}`" for word in kind)


if __name__ == "__main__":
    sys.exit(main())
