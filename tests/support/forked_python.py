"""Python programs in processes that have imported numpy, torch, matfn and the kernels before they begin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Ended", "ForkedPython", "forked_python"]

_PARENT: Final = """
import atexit, gc, json, os, sys, threading, traceback, types
import numpy, torch, matfn, matfn_kernels
gc.freeze()

def request():
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            return asked
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()

asked = request()
sys.argv = asked["argv"]
sys.path[0] = asked["path"]
os.chdir(asked["folder"])
os.environ.clear()
os.environ.update(asked["environment"])
for stream in (1, 2):
    os.dup2(os.open(asked[str(stream)], os.O_WRONLY | os.O_CREAT, 0o600), stream)
main = sys.modules["__main__"] = types.ModuleType("__main__")
main.__file__ = sys.argv[0]
code = 0
try:
    exec(compile(asked["code"], main.__file__, "exec"), main.__dict__)
except SystemExit as end:
    code = end.code if isinstance(end.code, int) else int(end.code is not None)
except BaseException:
    traceback.print_exc()
    code = 1
threading._shutdown()
atexit._run_exitfuncs()
main.__dict__.clear()
gc.collect()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
"""
"""A program ends as any other, but for what was there before it: taking that apart would copy all of its pages."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    returncode: int
    stdout: str
    stderr: str


class ForkedPython:
    """The process from which programs are forked; warnings are errors in it and in them."""

    def __init__(self) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # a process that forks should have no threads
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _PARENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            start_new_session=True,
        )

    def run(self, code: str, *argv: str, folder: Path, environment: Mapping[str, str]) -> Ended:
        """The end of a program with this code; `argv` begins with its file, if it has one."""
        outputs = {str(stream): str(folder / f".stream{stream}") for stream in (1, 2)}
        path = os.path.dirname(argv[0]) if argv else ""  # noqa: PTH120 - as Python itself has it
        asked = {"code": code, "argv": argv or ("-c",), "path": path, "folder": str(folder)}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({**asked, **outputs, "environment": dict(environment)}) + "\n")
        self.process.stdin.flush()
        returncode = int(self.process.stdout.readline())
        return Ended(returncode, *((folder / f".stream{stream}").read_text() for stream in (1, 2)))


@contextmanager
def forked_python() -> Iterator[ForkedPython]:
    """The process, gone afterwards with all that it has forked."""
    python = ForkedPython()
    try:
        yield python
    finally:
        os.killpg(python.process.pid, signal.SIGKILL)
        python.process.communicate()
