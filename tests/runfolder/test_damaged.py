"""Run folders from strangers: damaged, truncated or made up, they are refused in one line and never executed."""

import random
import shutil

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import build_run, make_manifest

from tracekit.errors import RunFolderError
from tracekit.model import COPIES, COUNTERS, NONE, SCHEMA_VERSION, SPANS, TABLES
from tracekit.runfolder import RunWriter, read_run

VERSION_ALONE = f'{{"schema_version": {SCHEMA_VERSION}}}'.encode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run folder."""
    run = build_run(steps=2, blocks=1)
    writer = RunWriter.create(tmp_path_factory.mktemp("whole") / "run", run.manifest)
    for name, table in TABLES.items():
        for row in getattr(run, name).itertuples(index=False):
            writer.append(table, *row)
    writer.finish(run.manifest)
    return writer.path


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(whole, tmp_path / "run")


def refusal(path) -> str:
    with pytest.raises(RunFolderError) as caught:
        read_run(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_run_folder_is_said(tmp_path):
    assert "not a run folder: there is no manifest.json" in refusal(tmp_path)
    assert "not a run folder" in refusal(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    assert "cannot read the run folder" in refusal(tmp_path / "file")


def is_refused(path) -> bool:
    """Whether the folder is refused in one line; any other exception is a failure."""
    said = ""
    try:
        read_run(path)
    except RunFolderError as error:
        said = str(error)
    assert "\n" not in said
    return bool(said)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{", b"[]", b"\xff", b'{"schema_version": "1"}', VERSION_ALONE, b'{"x": "\xff"}', b'{"a":' * 100_000],
)
def test_a_manifest_that_is_none_is_damage(folder, manifest):
    (folder / "manifest.json").write_bytes(manifest)
    assert "damaged: its manifest.json cannot be read" in refusal(folder)


def test_a_manifest_too_large_to_be_one_is_damage(folder):
    with (folder / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)
    assert "damaged: its manifest.json is too large" in refusal(folder)


def test_another_schema_version_is_refused_by_name(folder):
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
    manifest["schema_version"] = 99
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    assert f"has schema version 99, and this tracekit reads {SCHEMA_VERSION}" in refusal(folder)


def test_a_missing_table_is_damage_when_complete(folder):
    shutil.rmtree(folder / "copies")
    assert "its table copies is missing" in refusal(folder)


def test_a_truncated_part_is_damage(folder):
    part = folder / "copies" / "part-0.parquet"
    data = part.read_bytes()
    for size in (0, 3, len(data) // 2, len(data) - 1):
        part.write_bytes(data[:size])
        assert "damaged" in refusal(folder)


def test_a_mutated_part_is_refused_or_read_but_never_crashes(folder):
    rng = random.Random(1)
    part = folder / "copies" / "part-0.parquet"
    data = part.read_bytes()
    refused = 0
    for _ in range(150):
        mutated = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            mutated[rng.randrange(len(mutated))] ^= 1 << rng.randrange(8)
        part.write_bytes(mutated)
        refused += is_refused(folder)
    assert refused > 50


def change(folder, name, column, values) -> None:
    """Write a table again with one column's values changed."""
    part = folder / name / "part-0.parquet"
    data = pq.read_table(part)
    index = data.schema.get_field_index(column)
    field = data.schema.field(index)
    kept = data.column(column).to_pylist()
    kept[: len(values)] = values
    pq.write_table(data.set_column(index, field, pa.array(kept, field.type)), part)


@pytest.mark.parametrize(
    ("name", "column", "values", "says"),
    [
        ("spans", "kind", ["<script>"], "in its table spans kind says '<script>'"),
        ("copies", "direction", ["sideways"], "direction says 'sideways'"),
        ("copies", "start_ns", [-5], "start_ns is out of range"),
        ("copies", "size_bytes", [-5], "size_bytes is negative"),
        ("copies", "copy_id", [3, 3], "copy_id is not unique"),
        ("spans", "parent_id", [10**9], "a parent comes after its child"),
        ("device_ops", "end_ns", [1], "an end is before its start"),
        ("device_ops", "end_ns", [2**62], "end_ns is out of range"),
    ],
)
def test_impossible_values_are_damage(folder, name, column, values, says):
    change(folder, name, column, values)
    assert says in refusal(folder)


def test_wrong_columns_are_damage(folder):
    part = folder / "counters" / "part-0.parquet"
    data = pq.read_table(part)
    pq.write_table(data.drop_columns(["value"]), part)
    assert "has no column value" in refusal(folder)
    pq.write_table(data.set_column(3, "value", pa.array(["x"] * len(data))), part)
    assert "its column value is string, not f64" in refusal(folder)
    pq.write_table(data.set_column(3, "value", pa.array([None] * len(data), pa.float64())), part)
    assert "its column value lacks values" in refusal(folder)


def test_plain_strings_are_as_good_as_a_dictionary(folder):
    part = folder / "counters" / "part-0.parquet"
    data = pq.read_table(part)
    series = data["series"].to_pylist()
    pq.write_table(data.set_column(0, "series", pa.array(series)), part)
    assert read_run(folder).counters["series"].tolist() == series


def test_a_spool_with_impossible_ids_is_damage(tmp_path):
    writer = RunWriter.create(tmp_path / "run", make_manifest())
    writer.append(COUNTERS, "x", 0, 1, 1.0)
    writer.flush()
    strings = tmp_path / "run" / "spool" / "strings.bin"
    data = strings.read_bytes()
    for bad in (np.int32(2**31 - 1).tobytes() + data[4:], np.int32(NONE).tobytes() + data[4:], data + data):
        strings.write_bytes(bad)
        assert "impossible id" in refusal(tmp_path / "run")
    strings.write_bytes(data[:-1] + b"\xff")
    assert "not UTF-8" in refusal(tmp_path / "run")
    strings.unlink()
    assert "has no strings" in refusal(tmp_path / "run")


def test_a_mutated_spool_is_refused_or_read_but_never_crashes(tmp_path):
    rng = random.Random(2)
    writer = RunWriter.create(tmp_path / "run", make_manifest())
    for index in range(20):
        writer.append(SPANS, index, index - 1, "run", "a", "b", "", 0, 1, 2, 3)
        writer.append(
            COPIES, index, 0, 0, 1, "H2D", 8, 1, 2, "f", "w", "Tensor.to", "mmap", 1, "p", 0, "cuda:0", 0, False
        )
    writer.flush()
    files = [tmp_path / "run" / "spool" / name for name in ("spans.rows", "copies.rows", "strings.bin")]
    whole = {file: file.read_bytes() for file in files}
    refused = 0
    for _ in range(200):
        for file, data in whole.items():
            mutated = bytearray(data)
            mutated[rng.randrange(len(mutated))] ^= 1 << rng.randrange(8)
            file.write_bytes(mutated)
        refused += is_refused(tmp_path / "run")
    assert refused > 50
