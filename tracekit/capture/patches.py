"""Replace attributes of other libraries' classes and modules, and put every one back as it was."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_MISSING = object()


class Patches:
    """A set of replaced attributes. `remove` restores them in reverse order; it may be called twice.

    An attribute that its owner only inherited is deleted again, so that the owner's ``__dict__`` ends as it began.
    """

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, object, object]] = []
        self._known: set[tuple[int, str]] = set()

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
        if kind is not None:
            replacement = kind(replacement)
        setattr(owner, name, replacement)
        self._known.add((id(owner), name))
        self._replaced.append((owner, name, own, replacement))

    def suspend(self) -> None:
        """Put the originals back for a while; calls that are under way finish as they began."""
        for owner, name, own, _ in reversed(self._replaced):
            _restore(owner, name, own)

    def resume(self) -> None:
        """Undo `suspend`."""
        for owner, name, _, replacement in self._replaced:
            setattr(owner, name, replacement)

    def remove(self) -> list[str]:
        """Restore everything. Returns the names that somebody else has replaced since, which are left alone."""
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
