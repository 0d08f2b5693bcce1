"""Text from strangers (module names, prompts, paths) made harmless and short: no control character acts on a screen."""

from __future__ import annotations

# A control character becomes its picture (U+2400 and up): a newline is shown as ␊, an escape as ␛.
_PICTURES = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def visible(text: str) -> str:
    """The text with control characters as pictures, and without what UTF-8 cannot hold (a lone surrogate: ``?``)."""
    return text.translate(_PICTURES).encode("utf-8", "replace").decode()


def shorten_left(text: str, width: int) -> str:
    """The text's last `width` characters, an ellipsis first where some are missing: a path's end tells most."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]


def shorten_right(text: str, width: int) -> str:
    """The text's first `width` characters, an ellipsis last where some are missing."""
    return text if len(text) <= width else text[: width - 1] + "…"
