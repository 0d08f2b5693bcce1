"""Read the JSON file that a folder is known by, as data from strangers: checked, never executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from tracekit.errors import RunFolderError
from tracekit.runfolder.paths import UNREADABLE_JSON

T = TypeVar("T")
_MAX_LINE = 200


class _Version(msgspec.Struct):
    schema_version: int


@dataclass(frozen=True, slots=True)
class VersionedFile(Generic[T]):
    """A JSON file of one schema version, and how to speak of the folder that it makes."""

    name: str
    content: type[T]
    version: int
    folder_kind: str
    """As in "the run folder DIR is damaged" and "DIR is not a run folder"."""
    article: str
    max_bytes: int

    def read(self, folder: Path) -> T:
        """The file's content, whose fields all have their types.

        Raises:
            RunFolderError: there is none, of the version that this tracekit reads, or it is damaged.
        """
        data = self._bytes(folder)
        try:
            version = msgspec.json.decode(data, type=_Version).schema_version
            if version != self.version:
                raise RunFolderError(
                    f"the {self.folder_kind} {folder} has schema version {version}, and this tracekit reads "
                    f"{self.version}: use the tracekit that made it"
                )
            return msgspec.json.decode(data, type=self.content)
        except UNREADABLE_JSON as error:
            line = " ".join(str(error).split())[:_MAX_LINE]
            raise self.damaged(folder, f"its {self.name} cannot be read: {line}") from None

    def damaged(self, folder: Path, what: str) -> RunFolderError:
        """The error that says what is wrong with a folder."""
        return RunFolderError(f"the {self.folder_kind} {folder} is damaged: {what}")

    def _bytes(self, folder: Path) -> bytes:
        file = folder / self.name
        try:
            if file.stat().st_size > self.max_bytes:
                raise self.damaged(folder, f"its {self.name} is too large")
            return file.read_bytes()
        except FileNotFoundError:
            raise RunFolderError(
                f"{folder} is not {self.article} {self.folder_kind}: there is no {self.name} in it"
            ) from None
        except OSError as error:
            raise RunFolderError(f"cannot read the {self.folder_kind} {folder} ({error.strerror or error})") from None
