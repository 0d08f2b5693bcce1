"""Call back right after a module has been imported, however and by whomever it is imported.

tracekit has to change classes of torch, accelerate and diffusers that the user's script imports when it likes. A
finder at the head of ``sys.meta_path`` wraps the loader of an awaited module, and of no other; it is gone from there
as soon as nothing is awaited. Code that loads a module without ``sys.meta_path`` is not seen.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Imported = Callable[[ModuleType], None]


class Awaited:
    """A callback that waits for its module; it is called at most once."""

    def __init__(self, module_name: str, callback: Imported) -> None:
        self.module_name = module_name
        self._callback = callback
        self._lock = threading.Lock()

    def remove(self) -> None:
        """Wait no more; the callback is not called afterwards. Harmless after the call."""
        with self._lock:
            self._callback = _nothing
        _FINDER.forget(self)

    def _call(self, module: ModuleType) -> None:
        with self._lock:
            callback, self._callback = self._callback, _nothing
        callback(module)


def when_imported(module_name: str, callback: Imported) -> Awaited:
    """Call `callback` with the module right after it has been imported: now, if it already is.

    The callback runs in the thread that imports, before the import statement returns; what it raises, the import
    statement raises. Of a lazy module it gets what the module put into ``sys.modules``. An import that is under way in
    the calling thread itself counts as done.
    """
    awaited = Awaited(module_name, callback)
    _FINDER.await_import(awaited)
    if module_name in sys.modules:
        # Importing waits for an import that is under way in another thread.
        module = importlib.import_module(module_name)
        _FINDER.forget(awaited)
        awaited._call(module)
    return awaited


def _nothing(_module: ModuleType) -> None:
    """Stand in for a callback that was called or removed."""


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: it wraps the loaders that the other finders find for awaited modules."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Awaited]] = {}

    def await_import(self, awaited: Awaited) -> None:
        with self._lock:
            self._waiting.setdefault(awaited.module_name, []).append(awaited)
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def forget(self, awaited: Awaited) -> None:
        with self._lock:
            waiting = self._waiting.get(awaited.module_name, [])
            if awaited in waiting:
                waiting.remove(awaited)
            self._tidy(awaited.module_name)

    def imported(self, module: ModuleType) -> None:
        name = module.__name__
        with self._lock:
            waiting = self._waiting.pop(name, [])
            self._tidy(name)
        for awaited in waiting:
            # A lazy module has put something else in its own place.
            awaited._call(sys.modules.get(name, module))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._waiting:
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None

    def _tidy(self, module_name: str) -> None:
        """Leave no trace of what is not awaited; called with the lock held."""
        if module_name in self._waiting and not self._waiting[module_name]:
            del self._waiting[module_name]
        if not self._waiting and self in sys.meta_path:
            sys.meta_path.remove(self)


class _Loader(importlib.abc.Loader):
    """Executes a module with its own loader, then tells. The module sees only its own loader."""

    def __init__(self, loader: Any, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._finder.imported(module)

    def __getattr__(self, name: str) -> Any:
        # Whoever only asks for the spec (importlib.util.find_spec) may ask its loader for more, such as the source.
        return getattr(self._loader, name)


_FINDER = _Finder()
