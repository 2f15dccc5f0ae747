"""Web pages of any origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scripted import call_body

if TYPE_CHECKING:
    from scripted import Opened

pytestmark = pytest.mark.anyio

ORIGIN = {"Origin": "https://evil.example.org"}


async def test_star_allows_any_origin(opened: Opened) -> None:
    """With * all pages may read, and no answer differs by origin."""
    async with opened(cors_origins=("*",)) as client:
        preflight = await client.options("/v1/msign", headers={**ORIGIN, "Access-Control-Request-Method": "POST"})
        headers = {**ORIGIN, "Content-Type": "application/msgpack"}
        answer = await client.post("/v1/msign", headers=headers, content=call_body())
        without = await client.get("/v1/status")

    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, "*")
    assert (answer.headers["access-control-allow-origin"], "vary" in answer.headers) == ("*", False)
    assert not [name for name in without.headers if name == "vary" or name.startswith("access-control")]
