"""Web pages of any origin, and what those of an origin that may not call are told."""

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


@pytest.mark.parametrize("origins", [(), ("https://lab.example.org",)])
async def test_refused_preflight_says_why(opened: Opened, origins: tuple[str, ...]) -> None:
    """It is the origin, not the key, and the problem names the setting; with and without origins in it."""
    asking = {**ORIGIN, "Access-Control-Request-Method": "POST"}
    async with opened(api_keys="s3cret", cors_origins=origins) as client:
        refused = await client.options("/v1/msign", headers=asking)
        unkeyed = await client.options("/v1/msign")

    assert (refused.status_code, "www-authenticate" in refused.headers) == (403, False)
    assert refused.json()["code"] == "unauthorized"
    assert ORIGIN["Origin"] in refused.json()["detail"]
    assert "MATFN_CORS_ORIGINS" in refused.json()["hint"]
    assert (unkeyed.status_code, unkeyed.headers["www-authenticate"]) == (401, "Bearer")


async def test_options_are_told_as_before_where_no_origin_is_named(opened: Opened) -> None:
    """A proxy in front may answer for origins: what has a key, or needs none, is not refused."""
    asking = {**ORIGIN, "Access-Control-Request-Method": "POST"}
    async with opened(api_keys="s3cret") as client:
        keyed = await client.options("/v1/msign", headers={**asking, "Authorization": "Bearer s3cret"})
        probe = await client.options("/healthz", headers=asking)

    assert (keyed.status_code, probe.status_code) == (200, 200)
