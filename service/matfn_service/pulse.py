"""Signs of life of a process, by what the system knows of it: it needs no thread in the process, nor its help.

A process is stopped if the system says so twice in a row. It hangs if it has work and uses no processor for half a
minute. It overruns if its work takes a hundred times the predicted time, and a minute besides, of the processor; on a
machine that others use, or while it starts, it may wait ten times as long for that. Time is counted in looks, so that a
service which was itself stopped blames nobody for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

__all__ = ["LOOK_SECONDS", "Loss", "Pulse", "WorkerError", "WorkerLost", "memory_kills"]

LOOK_SECONDS: Final = 1.0
_STOPPED_LOOKS: Final = 2
_SILENT_SECONDS: Final = 30.0
_GRACE_SECONDS: Final = 60.0
_FACTOR: Final = 100.0  # predictions are wrong by less
_STARVED: Final = 10.0  # a process that gets less of a processor is not worth waiting for
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STOPPED: Final = b"T"
_STATE, _USER_TIME, _SYSTEM_TIME = 0, 11, 12  # fields of /proc/PID/stat after the name


class Loss(StrEnum):
    """Why a process was replaced."""

    ENDED = "ended"
    KILLED = "killed"
    MEMORY = "memory"
    STOPPED = "stopped"
    HUNG = "hung"
    OVERRAN = "overran"


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
    _processor_time: int = 0

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
        found = _stat(pid)
        if found is None:
            return None
        state, processor_time = found
        self.is_stopped = state == _STOPPED
        self._stopped_looks = self._stopped_looks + 1 if self.is_stopped else 0
        is_silent = self.is_busy and processor_time == self._processor_time
        self._silent = self._silent + LOOK_SECONDS if is_silent else 0.0
        self._working += LOOK_SECONDS
        self._computed += (processor_time - self._processor_time) / _TICKS
        self._processor_time = processor_time
        return self._verdict()

    def _verdict(self) -> Loss | None:
        if self._stopped_looks >= _STOPPED_LOOKS:
            return Loss.STOPPED
        if self._silent >= _SILENT_SECONDS:
            return Loss.HUNG
        has_overrun = self._computed > self._allowed or self._working > _STARVED * self._allowed
        return Loss.OVERRAN if self.is_busy and has_overrun else None


def _stat(pid: int) -> tuple[bytes, int] | None:
    """State of a process and the processor time that it has used; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[_STATE], int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])


def memory_kills() -> int | None:
    """How many processes the system has killed for want of memory since its start; None where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_bytes().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(b"oom_kill ")), None)
