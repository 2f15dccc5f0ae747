"""Signs of life of a process, by what the system knows of it: it needs no thread in the process, nor its help.

A process is stopped if the system says so twice in a row. It hangs if it has work and uses no processor for half a
minute. It overruns if its work takes a hundred times the predicted time, and a minute besides, of the processor; on a
machine that others use, or while it starts, it may wait ten times as long for that. Time is counted in looks, so that a
service which was itself stopped blames nobody for it.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

__all__ = [
    "LOOK_SECONDS",
    "STOPPED_LOOKS",
    "Look",
    "Loss",
    "Pulse",
    "WorkerError",
    "WorkerLost",
    "look_at",
    "loss_of",
    "memory_kills",
]

LOOK_SECONDS: Final = 1.0
STOPPED_LOOKS: Final = 2
_SILENT_SECONDS: Final = 30.0
_GRACE_SECONDS: Final = 60.0
_FACTOR: Final = 100.0  # predictions are wrong by less
_STARVED: Final = 10.0  # a process that gets less of a processor is not worth waiting for
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STATE, _USER_TIME, _SYSTEM_TIME = 0, 11, 12  # fields of /proc/PID/stat after the name


class Loss(StrEnum):
    """Why a process was replaced."""

    ENDED = "ended"
    KILLED = "killed"
    MEMORY = "memory"
    STOPPED = "stopped"
    HUNG = "hung"
    OVERRAN = "overran"


@dataclass(frozen=True, slots=True)
class Look:
    """State of a process, by the system's letter for it, and the processor time that it has used, in ticks."""

    state: str
    ticks: int

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it."""
        return self.state == "T"

    @property
    def is_asleep(self) -> bool:
        """Whether it waits for an event, and neither for a processor nor for a disk."""
        return self.state == "S"

    def seconds_since(self, ticks: int) -> float:
        """Seconds of a processor that it has used since its time was so many ticks."""
        return (self.ticks - ticks) / _TICKS


class WorkerError(Exception):
    """A computation raised, or lost its process; the text has the traceback or the reason."""


class WorkerLost(WorkerError):  # noqa: N818 - the error of that name is what callers are told of it
    """The process that computed was lost, for this reason."""

    def __init__(self, loss: Loss, detail: str) -> None:
        super().__init__(detail)
        self.loss = loss


@dataclass(slots=True)
class Pulse:
    """Results of looks at one process, a second apart."""

    is_busy: bool = False
    is_stopped: bool = False
    _allowed: float = _GRACE_SECONDS
    _working: float = 0.0
    _computed: float = 0.0
    _silent: float = 0.0
    _stopped_looks: int = 0
    _ticks: int = 0

    def begin(self, predicted: float) -> None:
        """The process has got work of so many predicted seconds."""
        self.is_busy = True
        self._working = self._computed = self._silent = 0.0
        self._allowed = _GRACE_SECONDS + _FACTOR * predicted

    def end(self) -> None:
        """The process has answered, or is gone."""
        self.is_busy = False

    def look(self, pid: int) -> Loss | None:
        """Looks at the process; returns why it should be replaced, if it should."""
        found = look_at(pid)
        if found is None:
            return None
        self.is_stopped = found.is_stopped
        self._stopped_looks = self._stopped_looks + 1 if self.is_stopped else 0
        is_silent = self.is_busy and found.ticks == self._ticks
        self._silent = self._silent + LOOK_SECONDS if is_silent else 0.0
        self._working += LOOK_SECONDS
        self._computed += found.seconds_since(self._ticks)
        self._ticks = found.ticks
        return self._verdict()

    def _verdict(self) -> Loss | None:
        if self._stopped_looks >= STOPPED_LOOKS:
            return Loss.STOPPED
        if self._silent >= _SILENT_SECONDS:
            return Loss.HUNG
        has_overrun = self._computed > self._allowed or self._working > _STARVED * self._allowed
        return Loss.OVERRAN if self.is_busy and has_overrun else None


def look_at(pid: int) -> Look | None:
    """A process as the system knows it; None where that does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return Look(fields[_STATE].decode(), int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME]))


def memory_kills() -> int | None:
    """How many processes the system has killed for want of memory since its start; None where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_bytes().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(b"oom_kill ")), None)


def loss_of(code: int | None, kills: int | None) -> Loss:
    """Why a process ended with this exit code, at whose start `memory_kills` was `kills`."""
    if code != -signal.SIGKILL:
        return Loss.ENDED
    now = memory_kills()  # where the system tells nothing, memory is what it mostly kills for
    return Loss.KILLED if now is not None and now == kills else Loss.MEMORY
