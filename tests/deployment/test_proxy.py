"""The example of nginx, run in front of a server: TLS, bounds, and what clients make of the proxy's own refusals."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn.http1 import Request
from processes import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "docker" / "nginx" / "matfn.conf"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
KEY = "k3y"
MAIN = """
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/matfn.conf;
}}
"""

pytestmark = pytest.mark.skipif(
    not Path(NGINX).exists() or shutil.which("openssl") is None, reason="nginx or openssl is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of 127.0.0.1."""
    made = tmp_path_factory.mktemp("nginx")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(command, cwd=made, check=True, capture_output=True)
    return made


@contextmanager
def proxy(folder: Path, *changes: tuple[str, str]) -> Iterator[str]:
    """The URL of nginx with the example, its paths, port and bounds changed."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    text = EXAMPLE.read_text()
    own = [("/run/matfn", str(folder)), ("/etc/ssl/matfn", str(folder)), ("443 ssl", f"127.0.0.1:{port} ssl")]
    for old, new in (*own, *changes):
        assert old in text
        text = text.replace(old, new)
    (folder / "matfn.conf").write_text(text)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
    command = [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    running = subprocess.Popen([*command, "-g", "daemon off;"])
    try:
        _await(port)
        yield f"https://127.0.0.1:{port}"
    finally:
        running.terminate()
        assert running.wait(20) == 0


def _await(port: int) -> None:
    """Returns when something listens."""
    for _ in range(1000):
        with closing(socket.socket()) as probe:
            probe.settimeout(10)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        os.sched_yield()
    raise AssertionError("nginx does not listen")


@contextmanager
def client(url: str, folder: Path, **settings: Any) -> Iterator[matfn.Client]:
    """A client that trusts the certificate."""
    tls = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    with matfn.Client(url, api_key=KEY, ssl_context=tls, max_retries=0, **settings) as made:
        yield made


@pytest.fixture(scope="module")
def behind(folder: Path) -> Iterator[None]:
    """A server on the unix socket that the example names."""
    with running_server(uds=str(folder / "matfn.sock"), api_keys=KEY):
        yield


@pytest.mark.usefixtures("behind")
def test_calls_pass_the_proxy(folder: Path) -> None:
    """Small and large calls, many calls, and the server's own refusals pass unchanged."""
    m = np.diag([2.0, -3.0])
    large = np.random.default_rng(0).standard_normal((40, 200, 200)).astype("f4")
    with proxy(folder) as url, client(url, folder) as asking:
        np.testing.assert_allclose(asking.msign(m), np.sign(m), atol=1e-12)
        assert asking.msign(large).shape == large.shape
        assert len(asking.map([matfn.call.msign(m)] * 9)) == 9
        with pytest.raises(matfn.NotPositive):
            asking.inv_root(m, r=2)
        assert asking._transport.send(Request("GET", "/readyz"), 10).status == 200


@pytest.mark.usefixtures("behind")
def test_body_beyond_the_proxys_bound_is_the_proxys_refusal(folder: Path) -> None:
    """A 413 that nginx wrote is told from one of the server."""
    with proxy(folder, ("client_max_body_size 576m", "client_max_body_size 1k")) as url, client(url, folder) as asking:
        with pytest.raises(matfn.TooLarge) as raised:
            asking.msign(np.ones((40, 40)))
        np.testing.assert_allclose(asking.msign(np.eye(2)), np.eye(2), atol=1e-12)

    assert "comes from nginx" in raised.value.detail
    assert "client_max_body_size" in str(raised.value.hint)


@pytest.mark.usefixtures("behind")
def test_requests_beyond_the_proxys_rate_are_busy(folder: Path) -> None:
    """A 429 of nginx may pass, and names the proxy."""
    changes = (("rate=1000r/s", "rate=1r/m"), ("burst=1000 nodelay", "burst=1 nodelay"))
    with proxy(folder, *changes) as url, client(url, folder) as asking:
        answers = [asking._transport.send(Request("GET", "/readyz"), 10).status for _ in range(3)]
        with pytest.raises(matfn.Busy, match="comes from nginx"):
            asking.status()

    assert answers == [200, 200, 429]


def test_proxy_without_a_server_is_a_transport_error(folder: Path) -> None:
    """A 502 of nginx says that the proxy reaches no server."""
    with (
        proxy(folder, ("matfn.sock", "nothing.sock")) as url,
        client(url, folder) as asking,
        pytest.raises(matfn.TransportError, match=r"HTTP 502 comes from nginx.* does the server run"),
    ):
        asking.status()
