"""Decides whether a request may be answered: only the pages that this server gave out may ask it for anything."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from email.message import Message

_OWN_SITE = frozenset({"same-origin", "none"})
"""What ``Sec-Fetch-Site`` says of the server's own pages, and of an address that the user typed or opened."""


def refusal(method: str, target: str, headers: Mapping[str, str] | Message, port: int, token: str) -> str | None:
    """Why a request is refused, in words for its sender; None if it may be answered.

    A web page elsewhere can make the user's browser send requests here. It cannot know the token; should it, ``Origin``
    and ``Sec-Fetch-Site`` tell it apart; and a name of its own that it points at 127.0.0.1 (DNS rebinding) stands in
    ``Host``.
    """
    own = f"127.0.0.1:{port}"
    if method not in ("GET", "HEAD"):
        return "only GET and HEAD are answered"
    if headers.get("Host") != own:
        return f"the address must begin with http://{own}"
    if headers.get("Origin", f"http://{own}") != f"http://{own}":
        return "pages of other origins are not answered"
    if headers.get("Sec-Fetch-Site", "none") not in _OWN_SITE:
        return "links from other pages are not answered: paste the address into the browser's address bar"
    first = target.partition("?")[0].split("/")[1:2]
    if not first or not hmac.compare_digest(first[0].encode("utf-8", "replace"), token.encode()):
        return "the address is not whole: it is printed by tracekit open --print-url"
    return None
