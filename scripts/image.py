"""Builds the image, runs it locked down, and sees that it answers, measures and drains.

BASE_IMAGE replaces the Dockerfile's base; BUILD_FLAGS and RUN_FLAGS are added to the engine's commands, for whatever
this machine needs to reach its package index and its containers. Nothing is installed.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from rich.console import Console

import demo
import matfn
from matfn.check import cases, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
IMAGE: Final = "matfn:local"

_START_SECONDS: Final = 120
_DRAIN_SECONDS: Final = 20
_OK: Final = 200
_CONFINED: Final = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=8g")
_PROBE: Final = """
import errno, importlib.util, json, os, shutil, sys
print("runs as root" if os.getuid() == 0 or os.getgid() == 0 else "")
print(*(f"has {name}" for name in ("pip", "cc", "gcc", "ld") if shutil.which(name)))
listed = {entry["name"] for entry in json.load(open(sys.prefix + "/share/matfn/sbom.cdx.json"))["components"]}
print(*(f"has {name}, which its bill of materials lacks" for name in ("matfn", "numpy", "torch") if name not in listed))
print("imports pip" if importlib.util.find_spec("pip") else "")
try:
    open("/var/cache/matfn/probe", "w")
except OSError as error:
    print("" if error.errno == errno.EROFS else error)
else:
    print("writes its root")
"""


class Unfit(Exception):  # noqa: N818 - the image's fault, or this machine's
    """What is missing or wrong, in words."""


class Engine(NamedTuple):
    """The command that builds images and the one that runs them; buildah has none."""

    build: tuple[str, ...]
    runner: str | None


def engine() -> Engine:
    """Docker where its daemon answers, else podman, else buildah."""
    if _succeeds("docker", "version"):
        return Engine(("docker", "build"), "docker")
    if _succeeds("podman", "info"):
        return Engine(("podman", "build", "--format=docker"), "podman")
    if _succeeds("buildah", "info"):
        return Engine(("buildah", "build", "--format=docker"), None)
    raise Unfit("no docker with a daemon that answers, no podman and no buildah: install one of them")


def _succeeds(*command: str) -> bool:
    return bool(shutil.which(command[0])) and not subprocess.run(command, capture_output=True, check=False).returncode


def build() -> str:
    """Builds the image from the project's root and returns the command that runs it."""
    builder, runner = engine()
    base = os.environ.get("BASE_IMAGE")
    arguments = [f"--build-arg=BASE_IMAGE={base}"] if base else []
    arguments += [f"--build-arg=VERSION={_version()}", f"--build-arg=REVISION={_revision()}"]
    arguments += shlex.split(os.environ.get("BUILD_FLAGS", ""))
    command = [*builder, f"--tag={IMAGE}", *arguments, str(ROOT)]
    if subprocess.run(command, check=False).returncode:
        raise Unfit(
            "the build failed. Where no registry can be reached, docker/offline-base.sh makes a base image from the"
            " distribution's packages; where the package index needs certificates or settings, BUILD_FLAGS mounts them"
        )
    if runner is None:
        raise Unfit("the image is built; running it takes docker or podman, and neither is here")
    return runner


def _version() -> str:
    """The version that is built, whatever the environment at hand was made of."""
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def _revision() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


@dataclass(slots=True)
class Box:
    """A running container, and how long its start took."""

    runner: str
    port: int
    key: str = field(default_factory=secrets.token_hex)
    name: str = field(default_factory=lambda: f"matfn-{secrets.token_hex(4)}")
    start_seconds: float = float("nan")

    @property
    def url(self) -> str:
        """Where the service is."""
        return f"http://127.0.0.1:{self.port}"

    def call(self, *arguments: str) -> str:
        """The output of one command of the engine."""
        done = subprocess.run([self.runner, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unfit(f"{self.runner} {arguments[0]}: {done.stderr.strip()}")
        return done.stdout.strip()

    def start(self) -> None:
        """Runs the image and waits until it is ready."""
        settings = {"PORT": self.port, "API_KEYS": self.key, "DRAIN_SECONDS": _DRAIN_SECONDS}
        arguments = [f"--env=MATFN_{name}={value}" for name, value in settings.items()]
        arguments += [f"--publish=127.0.0.1:{self.port}:{self.port}", *shlex.split(os.environ.get("RUN_FLAGS", ""))]
        start = time.monotonic()
        self.call("run", "--detach", f"--name={self.name}", *_CONFINED, *arguments, IMAGE)
        while self.get("/readyz")[0] != _OK:
            if time.monotonic() - start > _START_SECONDS:
                subprocess.run([self.runner, "logs", self.name], check=False)
                raise Unfit(f"not ready after {_START_SECONDS} s; its log is above")
            time.sleep(0.05)
        self.start_seconds = time.monotonic() - start

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET; 0 while nobody listens."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.key}"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, HTTPException):
            return 0, ""
        finally:
            connection.close()

    def exit_code(self) -> int:
        """The exit code of the container after SIGTERM, 137 if it outlives its drain time."""
        self.call("stop", "-t", str(_DRAIN_SECONDS), self.name)
        return int(self.call("inspect", "--format={{.State.ExitCode}}", self.name))


@contextmanager
def running(box: Box) -> Iterator[Box]:
    """The box, started, and gone afterwards."""
    try:
        box.start()
        yield box
    finally:
        _succeeds(box.runner, "rm", "--force", box.name)


def confinement(box: Box) -> str:
    """What the process could do and must not, and whether its own health check agrees."""
    faults = box.call("exec", box.name, "python", "-c", _PROBE)
    box.call("exec", box.name, "python", "-m", "matfn_service.health")
    return "; ".join(filter(None, faults.splitlines()))


def answers(box: Box) -> str:
    """Wrong answers of the self-test and of the demo's real matrices."""
    with matfn.Client(box.url, api_key=box.key) as client:
        wrong = [verdict for verdict in verdicts(client, cases()) if not verdict.right]
        missed = demo.run(client, Console(width=170))
    faults = [f"{verdict.case.invocation.function} is wrong" for verdict in wrong] + ["the demo missed"] * missed
    return "; ".join(faults)


def metrics(box: Box) -> str:
    """Why there are no metrics."""
    status, body = box.get("/metrics")
    return "" if status == _OK and "\nmatfn_" in body else f"GET /metrics: {status}"


def drain(box: Box) -> str:
    """Whether a call that runs when SIGTERM comes is answered, and the process ends with 0 in time."""
    stack = np.random.default_rng(0).standard_normal((16, 640, 640))
    with matfn.Client(box.url, api_key=box.key, max_retries=0) as client, ThreadPoolExecutor() as pool:
        before = client.status()["batches"]["count"]
        answer = pool.submit(client.msign, stack)
        while client.status()["batches"]["count"] == before:
            time.sleep(0.01)
        caught = not answer.done()
        code = box.exit_code()
        answered = answer.result().shape == stack.shape
    fine = (caught, answered, code) == (True, True, 0)
    return "" if fine else f"caught {caught}, answered {answered}, exit code {code}"


def main() -> int:
    """Builds, runs, checks, stops; exit code 1 if anything is not as it should be."""
    try:
        with running(Box(build(), _free_port())) as box:
            faults = {check.__name__: check(box) for check in (confinement, answers, metrics, drain)}
            size = int(box.call("image", "inspect", "--format={{.Size}}", IMAGE))
    except (Unfit, matfn.MatfnError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    print(f"{IMAGE}: {size / 1e6:.0f} MB, ready {box.start_seconds:.1f} s after its start")
    for name, fault in faults.items():
        print(f"{name}: {fault or 'as it should be'}")
    return int(any(faults.values()))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
