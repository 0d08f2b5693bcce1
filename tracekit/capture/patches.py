"""Replace attributes of other libraries' classes and modules, and put every one back as it was."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

_MISSING = object()


class Patches:
    """A set of replaced attributes. `remove` restores them in reverse order; it may be called twice.

    `suspend` and `resume` may nest, and come from several threads.

    An attribute that its owner only inherited is deleted again, so that the owner's ``__dict__`` ends as it began.
    """

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, object, object]] = []
        self._known: set[tuple[int, str]] = set()
        self._suspended = 0
        self._switching = threading.RLock()

    def wrap(self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace `owner.name` by ``make(original)``; does nothing when it is replaced already.

        The replacement carries the original's name, docstring and signature (`functools.wraps`), since diffusers
        inspects the signatures of schedulers and modules. Class methods and static methods stay what they are.
        """
        if (id(owner), name) in self._known:
            return
        own = vars(owner).get(name, _MISSING)
        kind = type(own) if isinstance(own, classmethod | staticmethod) else None
        original = own.__func__ if isinstance(own, classmethod | staticmethod) else getattr(owner, name)
        replacement: Any = functools.wraps(original)(make(original))
        if hasattr(original, "__code__") and not hasattr(replacement, "__code__"):
            # torch.compile asks the method of a module that it is given for its code.
            replacement.__code__ = original.__code__
        if kind is not None:
            replacement = kind(replacement)
        self._put(owner, name, own, replacement)

    def replace(self, owner: Any, name: str, replacement: object) -> None:
        """Replace `owner.name` by something that is no wrapper of it."""
        if (id(owner), name) not in self._known:
            self._put(owner, name, vars(owner).get(name, _MISSING), replacement)

    def _put(self, owner: Any, name: str, own: object, replacement: object) -> None:
        with self._switching:
            if not self._suspended:
                setattr(owner, name, replacement)
            self._known.add((id(owner), name))
            self._replaced.append((owner, name, own, replacement))

    def replacement(self, owner: Any, name: str) -> Any:
        """What stands in for an attribute that was wrapped.

        Raises:
            KeyError: it was not.
        """
        for known, its, _, replacement in self._replaced:
            if known is owner and its == name:
                return replacement
        raise KeyError(name)

    def suspend(self) -> None:
        """Put the originals back for a while; calls that are under way finish as they began."""
        with self._switching:
            self._suspended += 1
            if self._suspended == 1:
                for owner, name, own, _ in reversed(self._replaced):
                    _restore(owner, name, own)

    def resume(self) -> None:
        """Undo one `suspend`; without one, nothing happens."""
        with self._switching:
            if self._suspended == 1:
                self._install()
            self._suspended = max(self._suspended - 1, 0)

    def _install(self) -> None:
        for owner, name, _, replacement in self._replaced:
            setattr(owner, name, replacement)

    def remove(self) -> list[str]:
        """Restore everything. Returns the names that somebody else has replaced since, which are left alone."""
        with self._switching:
            if self._suspended:
                self._install()
                self._suspended = 0
            return self._remove()

    def _remove(self) -> list[str]:
        foreign = []
        while self._replaced:
            owner, name, own, replacement = self._replaced.pop()
            if vars(owner).get(name, _MISSING) is replacement:
                _restore(owner, name, own)
            else:
                foreign.append(f"{getattr(owner, '__name__', owner)}.{name}")
        self._known.clear()
        return foreign


def _restore(owner: Any, name: str, own: object) -> None:
    if own is _MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, own)


def defining_class(cls: type, name: str) -> type | None:
    """The class in `cls`'s method resolution order whose own ``__dict__`` has `name`; None if there is none."""
    return next((base for base in cls.__mro__ if name in vars(base)), None)
