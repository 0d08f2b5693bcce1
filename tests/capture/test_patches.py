"""Patched attributes come back exactly, whoever owned them."""

from __future__ import annotations

import inspect

from tracekit.capture.patches import Patches, defining_class


class Base:
    def greet(self, name: str) -> str:
        """Say hello."""
        return f"hello {name}"

    @classmethod
    def made(cls) -> str:
        return cls.__name__

    @staticmethod
    def plain(x: int) -> int:
        return x


class Child(Base):
    pass


def shouting(original):
    def call(*args, **kwargs):
        return str(original(*args, **kwargs)).upper()

    return call


def test_a_wrapped_method_keeps_its_name_and_signature_and_comes_back() -> None:
    before = dict(vars(Base))
    patches = Patches()
    patches.wrap(Base, "greet", shouting)
    assert Base().greet("you") == "HELLO YOU"
    assert Base.greet.__doc__ == "Say hello."
    assert list(inspect.signature(Base.greet).parameters) == ["self", "name"]
    assert patches.remove() == []
    assert dict(vars(Base)) == before


def test_class_and_static_methods_stay_what_they_are() -> None:
    before = dict(vars(Base))
    patches = Patches()
    patches.wrap(Base, "made", shouting)
    patches.wrap(Base, "plain", shouting)
    assert Child.made() == "CHILD"
    assert Base.plain(3) == "3"
    patches.remove()
    assert dict(vars(Base)) == before
    assert Child.made() == "Child"


def test_an_inherited_attribute_is_deleted_again() -> None:
    patches = Patches()
    patches.wrap(Child, "greet", shouting)
    assert "greet" in vars(Child)
    patches.remove()
    assert "greet" not in vars(Child)


def test_wrapping_twice_wraps_once() -> None:
    patches = Patches()
    patches.wrap(Base, "greet", lambda original: lambda self, name: original(self, name) + "!")
    patches.wrap(Base, "greet", lambda original: lambda self, name: original(self, name) + "!")
    assert Base().greet("you") == "hello you!"
    patches.remove()
    assert Base().greet("you") == "hello you"


def test_what_somebody_else_replaced_since_is_left_and_named() -> None:
    original = Base.greet
    patches = Patches()
    patches.wrap(Base, "greet", shouting)
    ours = Base.greet

    def theirs(self, name):
        return f"{ours(self, name)}?"

    Base.greet = theirs
    try:
        assert patches.remove() == ["Base.greet"]
        assert Base.greet is theirs
    finally:
        Base.greet = original


def test_suspending_puts_the_originals_back_for_a_while() -> None:
    before = dict(vars(Base))
    patches = Patches()
    patches.wrap(Base, "greet", shouting)
    patches.wrap(Child, "greet", shouting)
    patches.suspend()
    assert dict(vars(Base)) == before
    assert "greet" not in vars(Child)
    patches.resume()
    assert Child().greet("you") == "HELLO YOU"
    patches.remove()
    assert dict(vars(Base)) == before
    assert "greet" not in vars(Child)


def test_the_defining_class_is_where_the_attribute_is_written() -> None:
    assert defining_class(Child, "greet") is Base
    assert defining_class(Child, "nothing") is None
