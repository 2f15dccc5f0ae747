"""Settings that cannot be are told in one line each, as the user wrote them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch

from matfn_kernels.programs.profile import Profile
from matfn_service import serve, server
from matfn_service.configuration import Misconfigured, configured
from matfn_service.settings import Settings


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU, and a process that has been started again already."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("MATFN_STARTED_AGAIN", "1")


def fault(**options: object) -> str:
    """The one line that these options and the environment cost."""
    with pytest.raises(Misconfigured) as caught:
        configured(options)
    (line,) = caught.value.faults
    return line


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("MATFN_PORT", "abc", "must be a whole number of at least 0 and at most 65535"),
        ("MATFN_PORT", "65536", "must be a whole number of at least 0 and at most 65535"),
        ("MATFN_LANES", "0", "must be a whole number of at least 1 and at most 1024"),
        ("MATFN_WORKERS", "0", "must be a whole number of at least 1 and at most 1024"),
        ("MATFN_DEVICE", "foo", "must be one of auto, cpu, cuda"),
        ("MATFN_DEVICE", "cuda", "PyTorch finds no GPU on this machine; auto and cpu work without one"),
        ("MATFN_LOG_FORMAT", "xml", "must be one of console, json"),
        ("MATFN_QUEUE_BYTES", "-1", "must be a whole number of at least 1024, in bytes"),
        ("MATFN_DRAIN_SECONDS", "0", "must be a number above 0"),
        ("MATFN_DRAIN_SECONDS", "inf", "must be a number above 0"),
        ("MATFN_UDS", "/nowhere/matfn.sock", "there is no folder /nowhere"),
        ("MATFN_API_KEYS", " ,", "there is no key in it"),
    ],
)
def test_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str) -> None:
    """A line names the variable, what it was given and what it may be."""
    monkeypatch.setenv(variable, value)

    assert fault() == f"{variable}={value}: {allowed}"


@pytest.mark.parametrize("name", ["", "TRACES_", "METRICS_"])
@pytest.mark.parametrize(
    "value",
    [
        "not a url",
        "collector:4318",
        "grpc://collector:4317",
        "http://",
        "http://collector:port",
        "http://collector:99999",
        "http://[::1",
        "http://collector:4318?x=1",
    ],
)
def test_address_of_the_collector_is_a_url(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Traces that could never be sent are told at the start, unless they are switched off."""
    variable = f"OTEL_EXPORTER_OTLP_{name}ENDPOINT"
    monkeypatch.setenv(variable, value)

    assert fault().startswith(f"{variable}={value}: must be a URL such as http://collector:4318")

    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    configured({})


@pytest.mark.parametrize("value", ["http://collector:4318", "https://collector.example/otlp", "http://[::1]:4318/", ""])
def test_address_of_the_collector_is_taken(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """With and without a port and a path; nothing is none."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", value)

    configured({})


def test_passwords_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line about an address leaves a password in it out."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://me:s3cret@collector")

    assert "s3cret" not in fault()


@pytest.mark.parametrize(
    ("name", "value"), [("port", 99999), ("device", "foo"), ("device", "cuda"), ("uds", "/nowhere/matfn.sock")]
)
def test_option_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """An option wins over the variable, and the line names the option."""
    monkeypatch.setenv(f"MATFN_{name.upper()}", "ignored")

    assert fault(**{name: value}).startswith(f"--{name} {value}: ")


def test_file_is_no_socket(tmp_path: Path) -> None:
    """A path with something else on it is not taken, and what is there stays."""
    path = tmp_path / "notes"
    path.write_text("keep me")

    assert fault(uds=str(path)).startswith(f"--uds {path}: there is something else than a socket")
    assert path.read_text() == "keep me"


def test_settings_that_disagree_are_told() -> None:
    """A fault of several settings together has a line of its own."""
    assert fault(queue_bytes=2048, max_request_bytes=4096).startswith("MATFN_QUEUE_BYTES=2048 is below")
    assert fault(max_request_bytes=2048, grpc_message_bytes=4096).startswith("MATFN_GRPC_MESSAGE_BYTES=4096 exceeds")


def test_every_fault_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with exit code 1 and tells all faults at once, without a traceback."""
    monkeypatch.setenv("MATFN_MAX_ITEMS", "many")

    assert serve.main(port=99999) == 1
    assert capsys.readouterr().err.splitlines() == [
        "matfn serve: --port 99999: must be a whole number of at least 0 and at most 65535",
        "matfn serve: MATFN_MAX_ITEMS=many: must be a whole number of at least 1",
    ]


@pytest.mark.parametrize(
    ("variable", "advice"),
    [
        ("MATFN_MAX_ITEM", "the nearest is MATFN_MAX_ITEMS"),
        ("MATFN_API_KEYS_FLIE", "the nearest is MATFN_API_KEYS_FILE"),
        ("MATFN_LOGLEVEL", "the nearest is MATFN_LOG_LEVEL"),
        ("matfn_prot", "the nearest is MATFN_PORT"),
        ("MATFN_XYZZY", "docs/operations.md lists the settings"),
    ],
)
def test_variable_that_is_no_setting_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, advice: str) -> None:
    """A misspelt setting is told with the nearest one, and without its value, which may be a key."""
    monkeypatch.setenv(variable, "secret")

    assert fault() == f"{variable}: there is no such setting; {advice}"


def test_each_unknown_variable_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Misspelt settings are told together with those that cannot be."""
    monkeypatch.setenv("MATFN_PORT", "abc")
    monkeypatch.setenv("MATFN_HOSTS", "::1")
    monkeypatch.setenv("MATFN_WORKER", "2")

    with pytest.raises(Misconfigured) as caught:
        configured({})
    assert [line.partition(":")[0] for line in caught.value.faults] == ["MATFN_PORT=abc", "MATFN_HOSTS", "MATFN_WORKER"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MATFN_URL", "http://127.0.0.1:8000"),
        ("MATFN_API_KEY", "key"),
        ("MATFN_XYZZY", ""),
        ("matfn_max_order", "64"),
        ("MATFN_WEB_SERVICE_HOST", "10.0.0.1"),
        ("MATFN_WEB_SERVICE_PORT_HTTP", "80"),
        ("MATFN_WEB_PORT", "tcp://10.0.0.1:80"),
        ("MATFN_WEB_PORT_80_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Variables of the client, those that Kubernetes sets, and empty ones do not stop the server."""
    monkeypatch.setenv(variable, value)

    assert configured({}).port == 8000


def test_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing counts as not set."""
    monkeypatch.setenv("MATFN_PORT", "")
    monkeypatch.setenv("MATFN_UDS", "")

    assert (configured({}).port, configured({}).uds) == (8000, None)


def test_cache_that_cannot_be_made_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that cannot be created costs a warning, not the start."""
    monkeypatch.setattr(server, "configure_logs", lambda settings: settings)
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.serve(Settings(port=taken.getsockname()[1], cache_dir=tmp_path / "file" / "cache"))

    assert "kernels compiled for a GPU will not be kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "it cannot be read: No such file or directory"),
        ("{", "it is no profile: it is not JSON: "),
        (Profile("cuda", Profile.nominal().seconds).text(), "it is a profile of cuda, and cpu computes here"),
    ],
)
def test_profile_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, reason: str
) -> None:
    """A profile that is missing, broken or of another device ends the start, with its path and the reason."""
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("MATFN_PROFILE", str(path))
    monkeypatch.setenv("MATFN_DEVICE", "cpu")

    assert fault().startswith(f"MATFN_PROFILE={path}: {reason}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "there is no key in it"),
        (b" ,\n", "there is no key in it"),
        (b"\xff", "it is not text"),
    ],
)
def test_keys_that_cannot_be_read_open_no_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """A file of keys that is missing, empty or no text ends the start; it does not count as no keys."""
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("MATFN_API_KEYS_FILE", str(path))

    assert fault() == f"MATFN_API_KEYS_FILE={path}: {reason}"


def test_keys_come_from_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys in the environment beside a file of keys are refused: one of them would be forgotten."""
    monkeypatch.setenv("MATFN_API_KEYS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("MATFN_API_KEYS", "secret")

    assert fault() == "MATFN_API_KEYS and MATFN_API_KEYS_FILE are both set: keep one of them"


@pytest.mark.parametrize(
    ("already", "cache_dir", "expected"),
    [(None, "/cache", "/cache/triton"), ("/mine", "/cache", "/mine"), (None, None, None)],
)
def test_compiled_kernels_are_kept_beside_the_profile(
    monkeypatch: pytest.MonkeyPatch, already: str | None, cache_dir: str | None, expected: str | None
) -> None:
    """Triton's cache is where the server may write, unless its own variable says where."""
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    if already is not None:
        monkeypatch.setenv("TRITON_CACHE_DIR", already)

    serve.keep_compiled(None if cache_dir is None else Path(cache_dir))

    found = os.environ.pop("TRITON_CACHE_DIR", None)
    assert found == expected
