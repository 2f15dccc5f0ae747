"""Proxies that the environment names, and TLS through them, with both transports on real sockets."""

from __future__ import annotations

import asyncio
import pickle
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn import wire
from matfn.endpoint import Endpoint
from matfn.http1 import Request, head_of
from matfn.proxies import Proxy, proxy_of
from matfn.tunnel import connect_head, refusal_in
from scripted_socket import Conversation, ScriptedServer, answered, http_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

A = np.diag([1.0, 2.0])
PROXY = "http://proxy.test:3128"
KINDS = pytest.mark.parametrize("kind", [matfn.Client, matfn.AsyncClient])


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the proxies of whoever runs the tests."""
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_PROXY".upper(), raising=False)


def chosen(url: str, **environment: str) -> str | None:
    """The proxy of a URL in words."""
    proxy = proxy_of(Endpoint.parse(url), environment)
    return None if proxy is None else str(proxy)


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("http://gpu.test", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://gpu.test", {"http_proxy": PROXY}, PROXY),
        ("http://gpu.test", {"http_proxy": PROXY, "HTTP_PROXY": "http://other.test:1"}, PROXY),
        ("http://gpu.test", {"http_proxy": "", "HTTP_PROXY": PROXY}, None),
        ("http://gpu.test", {"HTTP_PROXY": "proxy.test:3128"}, PROXY),
        ("http://gpu.test", {"HTTP_PROXY": "http://proxy.test"}, "http://proxy.test:80"),
        ("http://gpu.test", {"HTTPS_PROXY": PROXY}, None),
        ("https://gpu.test", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://gpu.test", {"HTTP_PROXY": PROXY}, None),
        ("https://gpu.test", {"ALL_PROXY": PROXY}, PROXY),
        ("http://gpu.test", {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None),
        ("http://gpu.test", {}, None),
        ("unix:///run/matfn.sock", {"ALL_PROXY": PROXY}, None),
        ("http://localhost:8000", {"ALL_PROXY": PROXY}, None),
        ("http://127.0.0.1:8000", {"ALL_PROXY": PROXY}, None),
        ("http://[::1]:8000", {"ALL_PROXY": PROXY}, None),
    ],
)
def test_proxy_is_the_environments(url: str, environment: dict[str, str], expected: str | None) -> None:
    """The scheme's variable decides, in lower case first; this machine's own servers need no proxy."""
    assert chosen(url, **environment) == expected


@pytest.mark.parametrize(
    ("exceptions", "url", "direct"),
    [
        ("gpu.test", "http://gpu.test:8000", True),
        ("gpu.test", "http://a.gpu.test", True),
        (".gpu.test", "http://a.gpu.test", True),
        ("*.gpu.test", "http://a.gpu.test", True),
        ("GPU.test", "http://gpu.TEST", True),
        ("gpu.test", "http://notgpu.test", False),
        ("gpu.test:8000", "http://gpu.test:8000", True),
        ("gpu.test:8000", "http://gpu.test:8001", False),
        ("other.test, gpu.test", "http://gpu.test", True),
        ("*", "http://gpu.test", True),
        ("10.0.0.0/8", "http://10.1.2.3:8000", True),
        ("10.0.0.0/8", "http://11.1.2.3:8000", False),
        ("10.0.0.0/8", "http://gpu.test", False),
        ("10.1.2.3", "http://10.1.2.3", True),
        ("fd00::1", "http://[fd00::1]", True),
        ("fd00::/8", "http://[fd00::1]", True),
        ("[fd00::1]:80", "http://[fd00::1]:80", True),
        ("", "http://gpu.test", False),
        (" , ", "http://gpu.test", False),
    ],
)
def test_exceptions_go_the_direct_way(exceptions: str, url: str, direct: bool) -> None:
    """NO_PROXY names hosts with their subdomains, addresses and networks, each for all ports or for one."""
    assert chosen(url, HTTP_PROXY=PROXY, NO_PROXY=exceptions) == (None if direct else PROXY)


@pytest.mark.parametrize("url", ["socks5://proxy.test:1080", "https://proxy.test", "http://"])
def test_other_proxies_are_refused(url: str) -> None:
    """The message names the variable and what it may hold."""
    with pytest.raises(ValueError, match=r"HTTP_PROXY names a proxy by .*matfn takes http://host:port"):
        chosen("http://gpu.test", HTTP_PROXY=url)


def test_credentials_are_sent_and_never_shown() -> None:
    """A user and password become a header, and stand in no text."""
    proxy = Proxy.parse("http://me:p%40ss@proxy.test:3128", "HTTP_PROXY")
    endpoint = Endpoint.parse("http://gpu.test:8000/matfn")

    head = head_of(Request("GET", "/v1/status"), endpoint, proxy)

    assert head.startswith(b"GET http://gpu.test:8000/matfn/v1/status HTTP/1.1\r\nHost: gpu.test:8000\r\n")
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==" in head  # me:p@ss
    assert "bWU6" not in f"{proxy!r} {proxy}"
    assert b"Proxy-Authorization" not in head_of(Request("GET", "/"), Endpoint.parse("https://gpu.test"), proxy)
    assert connect_head(proxy, Endpoint.parse("https://[fd00::1]")).startswith(b"CONNECT [fd00::1]:443 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b"HTTP/1.1 407 -\r\n\r\n", matfn.ProtocolError, "asks for credentials"),
        (b"HTTP/1.1 403 -\r\n\r\n", matfn.ProtocolError, "does not connect to https://gpu.test: HTTP 403"),
        (b"HTTP/1.1 503 -\r\n\r\n", matfn.TransportError, "does not connect to https://gpu.test: HTTP 503"),
        (b"SSH-2.0\r\n\r\n", matfn.ProtocolError, "is no HTTP proxy"),
    ],
)
def test_refusal_of_a_proxy_is_told(answer: bytes, error: type[Exception], words: str) -> None:
    """A refusal that will stay is no error that may pass."""
    found = refusal_in(answer, Proxy.parse(PROXY, ""), Endpoint.parse("https://gpu.test"))

    assert type(found) is error
    assert words in str(found)


def asked(kind: type, url: str, **settings: Any) -> Any:
    """The answer to a call of a client of either kind."""
    if kind is matfn.Client:
        with matfn.Client(url, max_retries=0, **settings) as client:
            return client.msign(A)

    async def awaited() -> Any:
        async with matfn.AsyncClient(url, max_retries=0, **settings) as client:
            return await client.msign(A)

    return asyncio.run(awaited())


def reply_to(request: bytes) -> bytes:
    """Limits for GET, the first input for a call."""
    head, _, body = request.partition(b"\r\n\r\n")
    method, target = head.decode().split()[:2]
    if method == "GET":
        return http_response(b"{}", content_type="application/json")
    call = wire.decode_call(body, wire.Media.MSGPACK, target.rpartition("/")[2])
    return http_response(b"".join(wire.encode_answer(answered(call), wire.Media.MSGPACK)))


def passing_on(server: ScriptedServer, conversation: Conversation) -> None:
    """A proxy and the server behind it in one."""
    while request := server.read(conversation):
        conversation.say(reply_to(request))


@KINDS
def test_plain_requests_pass_a_proxy(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of http gets whole URLs, whose host only it must know."""
    with ScriptedServer(passing_on) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://me:secret@"))

        np.testing.assert_array_equal(asked(kind, "http://gpu.test:9"), A)

    assert proxy.requests[1].startswith(b"POST http://gpu.test:9/v1/msign HTTP/1.1\r\nHost: gpu.test:9\r\n")
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in proxy.requests[1]


@KINDS
def test_proxy_that_is_not_there_is_named(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says that a proxy was asked, and which, without its password."""
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")

    with pytest.raises(matfn.TransportError, match=r"http://gpu.test by the proxy http://127.0.0.1:9: ") as raised:
        asked(kind, "http://gpu.test")

    assert "secret" not in str(raised.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of gpu.test and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=gpu.test"]
    command += ["-addext", "subjectAltName=DNS:gpu.test", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def tunnelling(folder: Path) -> Callable[[ScriptedServer, Conversation], None]:
    """A proxy that connects to a server with TLS, which is in it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")

    def script(server: ScriptedServer, conversation: Conversation) -> None:
        server.read(conversation)
        conversation.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
        encrypted = Conversation(context.wrap_socket(conversation.socket, server_side=True), conversation.number)
        with encrypted.socket:
            while request := server.read(encrypted):
                encrypted.say(reply_to(request))

    return script


@KINDS
def test_encrypted_requests_pass_a_proxy(kind: type, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of https connects, and the server's certificate is checked by the caller's settings of TLS."""
    trusting = ssl.create_default_context(cafile=str(certificate / "certificate.pem"))
    with ScriptedServer(tunnelling(certificate)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)

        np.testing.assert_array_equal(asked(kind, "https://gpu.test", ssl_context=trusting), A)
        with pytest.raises(matfn.ProtocolError, match=r"https://gpu.test cannot be trusted"):
            asked(kind, "https://gpu.test")

    assert proxy.requests[0].startswith(b"CONNECT gpu.test:443 HTTP/1.1\r\nHost: gpu.test:443\r\n\r\n")
    assert proxy.requests[1].startswith(b"GET /v1/functions HTTP/1.1\r\nHost: gpu.test\r\n")


@KINDS
@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 -\r\n\r\n", b"", b"nothing", b"x" * 70000])
def test_proxy_that_does_not_connect_is_an_error(kind: type, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal, a hang-up, and what is no HTTP are transport errors that name the server."""

    def refusing(server: ScriptedServer, conversation: Conversation) -> None:
        server.read(conversation)
        conversation.say(answer)

    with ScriptedServer(refusing) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)

        with pytest.raises(matfn.TransportError, match="proxy"):
            asked(kind, "https://gpu.test")


def test_copy_keeps_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is unpickled where the environment differs goes the same way."""
    with ScriptedServer(passing_on) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        pickled = pickle.dumps(matfn.Client("http://gpu.test"))
        monkeypatch.delenv("HTTP_PROXY")

        with pickle.loads(pickled) as client:  # noqa: S301 - our own bytes
            np.testing.assert_array_equal(client.msign(A), A)


@KINDS
def test_settings_of_tls_need_https(kind: type) -> None:
    """Settings that would have no effect are refused."""
    with pytest.raises(ValueError, match=r"ssl_context is given, but http://gpu.test is not https"):
        kind("http://gpu.test", ssl_context=ssl.create_default_context())
