"""Web pages of other origins: which may call a real server, and what browsers are told."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from guarded_server import KEY, ORIGIN
from matfn_service.configuration import Misconfigured, configured
from matfn_service.cors import origins_in
from scripted import call_body

if TYPE_CHECKING:
    from processes import ServerProcess

pytestmark = pytest.mark.timeout(120)

OTHER = "https://evil.example.org"
HAS_KEY = {"Authorization": f"Bearer {KEY}"}
CALL = {"Content-Type": "application/msgpack"}
ASKING = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
EXPOSED = "access-control-expose-headers"


def told(
    server: ServerProcess, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer; those that concern origins alone."""
    connection = HTTPConnection(*server.address, timeout=30)
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        response.read()
        found = [(name.lower(), value) for name, value in response.getheaders()]
    finally:
        connection.close()
    return response.status, {name: one for name, one in found if name == "vary" or name.startswith("access-control")}


def test_preflight_needs_no_key(guarded: ServerProcess) -> None:
    """A browser's question is answered for an allowed origin, without a key and without a body."""
    status, headers = told(guarded, "OPTIONS", "/v1/inv_root", {"Origin": ORIGIN, **ASKING})

    assert status == 200
    assert headers == {
        "vary": "Origin",
        "access-control-allow-origin": ORIGIN,
        "access-control-allow-methods": "GET, HEAD, POST",
        "access-control-allow-headers": "accept, authorization, content-type, inference-header-content-length,"
        " traceparent, tracestate, x-matfn-offset, x-matfn-key, x-matfn-triangle, x-request-id",
        "access-control-max-age": "600",
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": OTHER, **ASKING},
        {"Origin": "null", **ASKING},
        {"Origin": f"{ORIGIN}.evil.org", **ASKING},
        {"Origin": ORIGIN.upper(), **ASKING},
        {"Origin": ORIGIN},
        ASKING,
    ],
    ids=["other", "null", "suffix", "capitals", "no method asked", "no origin"],
)
def test_other_questions_need_a_key(guarded: ServerProcess, headers: dict[str, str]) -> None:
    """An origin that is not in the list, exactly as browsers write it, is granted nothing, and needs a key."""
    status, told_headers = told(guarded, "OPTIONS", "/v1/inv_root", headers)

    assert status == 401
    assert "access-control-allow-methods" not in told_headers
    assert told_headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("key", "path", "body", "status"),
    [
        (HAS_KEY, "/v1/msign", call_body(), 200),
        ({}, "/v1/msign", call_body(), 401),
        (HAS_KEY, "/v1/msign", b"\xc1", 400),
        (HAS_KEY, "/v1/nothing", call_body(), 404),
    ],
)
def test_answers_and_problems_may_be_read(
    guarded: ServerProcess, key: dict[str, str], path: str, body: bytes, status: int
) -> None:
    """A page may read answers and problems, with the headers that clients need; keys are checked as ever."""
    for origin, allowed in ((ORIGIN, ORIGIN), (OTHER, None)):
        found, headers = told(guarded, "POST", path, {"Origin": origin, **CALL, **key}, body)

        assert found == status
        assert headers.get("access-control-allow-origin") == allowed
        assert (EXPOSED in headers) is (allowed is not None)
        assert headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in headers


def test_no_origin_is_allowed_by_default(server: ServerProcess) -> None:
    """A server that was not told of any origin says nothing of them."""
    assert told(server, "OPTIONS", "/v1/msign", {"Origin": ORIGIN, **ASKING}) == (200, {})
    assert told(server, "POST", "/v1/msign", {"Origin": ORIGIN, **CALL}, call_body()) == (200, {})


@pytest.mark.parametrize(
    "written", ["lab.example.org", "https://lab.example.org/", "*, https://a.org", "null", "file://"]
)
def test_misspelt_origin_ends_the_start(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """What no browser would send as an origin is a fault of the settings."""
    monkeypatch.setenv("MATFN_CORS_ORIGINS", written)
    with pytest.raises(Misconfigured, match="MATFN_CORS_ORIGINS="):
        configured({})


def test_origins_are_read_once_each() -> None:
    """Origins are written as browsers do, in small letters, each once."""
    assert origins_in(" https://A.org ,, https://a.org,http://[::1]:80") == ("https://a.org", "http://[::1]:80")
