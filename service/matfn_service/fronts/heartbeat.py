"""Signs of life of a front: its event loop tells the server that it turns, and the system whether it is stopped.

A front beats twice a second, by telling what it has counted. It is stopped if the system says so in two looks in a row,
and hangs if it has not beaten for ten. The server looks once a second and counts looks, so that a server which was
itself stopped, or whose loop was held up, blames no front for it: between two looks it hears of all that fronts have
sent. The server does not beat. Its fronts wait for it however long it takes, and the system ends them with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from matfn_service.pulse import STOPPED_LOOKS, Look, Loss, look_at

__all__ = ["BEAT_SECONDS", "Heartbeat"]

BEAT_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Patience:
    """Looks without a beat after which a front hangs, and the seconds of a processor that explain none."""

    looks: int
    processor_seconds: float


_STARTING: Final = _Patience(
    60, 30.0
)  # its imports take 3 s of a processor, and ten times as long where disks are cold
_SERVING: Final = _Patience(10, 0.5)  # a whole collection, the longest turn of a loop, takes 0.1 s of a processor
_STARVED: Final = 10  # times as many looks for a front that waits for a processor or a disk: others would wait as well


@dataclass(slots=True)
class Heartbeat:
    """Results of looks at one front, a second apart."""

    is_stopped: bool = False
    _patience: _Patience = _STARTING
    _silent_looks: int = 0
    _stopped_looks: int = 0
    _ticks: int = 0  # of the processor, at the last beat or look after it

    def beat(self) -> None:
        """The front's loop has turned."""
        self._patience = _SERVING
        self._silent_looks = 0

    def look(self, pid: int) -> Loss | None:
        """Looks at the front; returns why it should be replaced, if it should."""
        found = look_at(pid)
        if found is None:
            return None
        self.is_stopped = found.is_stopped
        self._stopped_looks = self._stopped_looks + 1 if self.is_stopped else 0
        if not self._silent_looks:
            self._ticks = found.ticks
        self._silent_looks += 1
        return self._verdict(found)

    def _verdict(self, found: Look) -> Loss | None:
        if self._stopped_looks >= STOPPED_LOOKS:
            return Loss.STOPPED
        has_had_its_time = found.is_asleep or found.seconds_since(self._ticks) > self._patience.processor_seconds
        most = self._patience.looks * (1 if has_had_its_time else _STARVED)
        return Loss.HUNG if self._silent_looks > most else None
