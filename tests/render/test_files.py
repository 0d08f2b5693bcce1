from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from tracekit.errors import UsageError
from tracekit.render.files import write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_with_ordinary_rights(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()

    def write(stream: BinaryIO) -> None:
        stream.write(b"first")
        stream.flush()
        assert not (tmp_path / "a").exists()
        stream.write(b", second")

    write_file(tmp_path / "a", write)
    assert (tmp_path / "a").read_bytes() == b"first, second"
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode
    assert names(tmp_path) == ["a", "plain"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_whatever_goes_wrong_the_old_file_stays_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a").write_text("old")

    def fail(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_file(tmp_path / "a", fail)
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def fill(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UsageError, match=r"^cannot write .*/a: No space left on device$"):
        write_file(tmp_path / "a", fill)
    assert names(tmp_path) == []


def test_a_place_that_takes_no_files_is_one_line() -> None:
    with pytest.raises(UsageError, match="cannot write"):
        write_file(Path("/proc/tracekit"), lambda stream: stream.write(b"x"))


@pytest.mark.parametrize("path", ["missing/a", "file/a"])
def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        write_file(tmp_path / path, lambda stream: stream.write(b"x"))


def test_a_folder_in_the_files_place_is_one_line_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="Is a directory"):
        write_file(tmp_path / "a", lambda stream: stream.write(b"x"))
    assert names(tmp_path) == ["a"]
