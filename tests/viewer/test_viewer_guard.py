"""Which requests are answered: the rule alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.viewer.guard import refusal

PORT, TOKEN = 4711, "s3cret-token_of-the-site"
OWN = {"Host": "127.0.0.1:4711"}
TARGET = f"/{TOKEN}/viewer?start=1&end=2"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:4711", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_own_pages_and_typed_addresses_are_answered(headers: dict[str, str]) -> None:
    assert refusal("GET", TARGET, OWN | headers, PORT, TOKEN) is None
    assert refusal("HEAD", TARGET, OWN | headers, PORT, TOKEN) is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"Host": "evil.example:4711"}, "must begin"),
        ({"Host": "localhost:4711"}, "must begin"),
        ({"Host": "127.0.0.1"}, "must begin"),
        ({"Host": "127.0.0.1:4711.evil.example"}, "must begin"),
        ({"Origin": "http://evil.example"}, "origins"),
        ({"Origin": "http://127.0.0.1:9001"}, "origins"),
        ({"Origin": "null"}, "origins"),
        ({"Origin": ""}, "origins"),
        ({"Sec-Fetch-Site": "cross-site"}, "address bar"),
        ({"Sec-Fetch-Site": "same-site"}, "address bar"),  # another port of 127.0.0.1
    ],
)
def test_others_are_refused(change: dict[str, str], word: str) -> None:
    assert word in (refusal("GET", TARGET, OWN | change, PORT, TOKEN) or "")


def test_a_request_without_a_host_is_refused() -> None:
    assert refusal("GET", TARGET, {}, PORT, TOKEN) is not None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get"])
def test_only_reading_is_answered(method: str) -> None:
    assert refusal(method, TARGET, OWN, PORT, TOKEN) is not None


@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_no_other_token_opens_it(token: str) -> None:
    opens = token.partition("?")[0].partition("/")[0] == TOKEN
    assert (refusal("GET", f"/{token}", OWN, PORT, TOKEN) is None) == opens


@pytest.mark.parametrize("target", ["", "/", "//", TOKEN, f"//{TOKEN}", f"http://127.0.0.1:4711/{TOKEN}/viewer", "*"])
def test_the_token_comes_first(target: str) -> None:
    assert refusal("GET", target, OWN, PORT, TOKEN) is not None
