"""Settings come from the environment, and every one is documented."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import structlog

from matfn_service import server
from matfn_service.server import _is_loopback, _tell_if_open
from matfn_service.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable named MATFN_ and the setting sets it."""
    monkeypatch.setenv("MATFN_MAX_ORDER", "100")
    monkeypatch.setenv("MATFN_API_KEYS", "one, two,")
    settings = Settings()

    assert settings.max_order == 100
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert "two" not in repr(settings)


def test_former_name_of_workers_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """MATFN_LANES sets the number of workers where MATFN_WORKERS does not."""
    monkeypatch.setenv("MATFN_LANES", "3")
    former = Settings()
    monkeypatch.setenv("MATFN_WORKERS", "2")

    assert (former.workers, Settings().workers) == (3, 2)


@pytest.mark.parametrize("text", ["one\ntwo\n", "one, two", " one \r\n\n two,"])
def test_keys_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """A file holds keys one a line or with commas between; space around them is none of theirs."""
    (tmp_path / "keys").write_bytes(text.encode())
    monkeypatch.setenv("MATFN_API_KEYS_FILE", str(tmp_path / "keys"))

    assert [key.get_secret_value() for key in Settings().api_keys] == ["one", "two"]


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_described(name: str) -> None:
    """The description is the setting's line in the manual."""
    assert (Settings.model_fields[name].description or "").endswith(".")


def test_queue_holds_the_largest_request() -> None:
    """Settings under which the largest request could never be queued are refused."""
    with pytest.raises(ValueError, match="MATFN_QUEUE_BYTES"):
        Settings(queue_bytes=2048, max_request_bytes=4096)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],  # noqa: S104
)
def test_loopback_is_recognised(host: str, loopback: bool) -> None:
    """Only addresses that no other machine reaches count as such."""
    assert _is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, [("open to this machine without keys", "info")]),
        ({"host": "localhost"}, [("open to this machine without keys", "info")]),
        ({"host": "0.0.0.0"}, [("open to the network without keys", "warning")]),  # noqa: S104
        ({"api_keys": "secret"}, []),
        ({"uds": "/run/matfn.sock"}, []),
    ],
)
def test_open_server_says_so_in_a_line(settings: dict[str, str], told: list[tuple[str, str]]) -> None:
    """A server without keys tells at its start who may use it; a unix socket is guarded by its folder."""
    with structlog.testing.capture_logs() as lines:
        _tell_if_open(Settings.model_validate(settings))

    assert [(line["event"], line["log_level"]) for line in lines] == told


def test_taken_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot listen ends with exit code 1."""
    monkeypatch.setattr(server, "configure_logs", lambda settings: settings)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert server.serve(Settings(port=taken.getsockname()[1])) == 1
