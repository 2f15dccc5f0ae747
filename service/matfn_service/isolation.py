"""Isolation of failures: a share that fails is cut in two until what fails stands alone.

- A share whose computation raises is cut between jobs, then within a job, so that one failure fails alone.
- A share whose process was lost is cut likewise between jobs, and one job's matrices are tried once more.
- A share that is too large for the device's memory is cut in two as well. The batches of its key stay smaller for a
  while: the cap is halved, and grows back by a step with each batch that fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from matfn_service.assembly import Part, halves
from matfn_service.memory import DeviceMemoryError
from matfn_service.problems import Refusal
from matfn_service.pulse import Loss, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from matfn_service.encoding import Encoded
    from matfn_service.executor import Executor
    from matfn_service.statistics import Statistics

__all__ = ["Caps", "Isolator", "ShareRun"]

_RECOVERY: Final = 1 / 16


@dataclass(frozen=True, slots=True)
class ShareRun:
    """An answer or an exception for each part of a share, and the seconds that they and their copies took."""

    answered: list[tuple[Part, Encoded | Exception]]
    seconds: float
    copying: float = 0.0


class Caps:
    """By key, the part of a full batch that fits the device's memory."""

    def __init__(self) -> None:
        self._below_one: dict[Hashable, float] = {}

    def __len__(self) -> int:
        """Number of keys whose batches are smaller than full ones."""
        return len(self._below_one)

    def of(self, key: Hashable) -> float:
        """The cap of a key, at most 1."""
        return self._below_one.get(key, 1.0)

    def lower(self, key: Hashable, cap: float) -> None:
        """Lowers the cap of a key."""
        self._below_one[key] = min(self.of(key), cap)

    def relax(self, key: Hashable) -> None:
        """Raises the cap of a key by one step."""
        cap = self._below_one.pop(key, 1.0) + _RECOVERY
        if cap < 1.0:
            self._below_one[key] = cap


class Isolator:
    """Computes shares so that a failure reaches no other call."""

    def __init__(self, executor: Executor, statistics: Statistics) -> None:
        self.caps = Caps()
        self._executor = executor
        self._statistics = statistics

    async def run(self, key: Hashable, parts: Sequence[Part], depth: int = 0) -> ShareRun:
        """Computes a share of a batch of this key, which was cut `depth` times before."""
        try:
            run = await self._executor.run(parts)
            pieces = zip(parts, run.evaluations, strict=True)
        except DeviceMemoryError:
            self._statistics.halvings += 1
            self.caps.lower(key, 0.5 ** (depth + 1))
            both = halves(parts)
            failure: Exception = Refusal(
                "out_of_memory", "the device has too little memory for one matrix of this call"
            )
        except WorkerLost as lost:
            both = halves(parts) if len(parts) > 1 else None
            self._statistics.bisections += both is not None
            failure = _worker_lost(lost)
        except Exception as error:  # noqa: BLE001 - an exception of a kernel must not reach the batch's other calls
            both = halves(parts) if len(parts) > 1 else None
            self._statistics.bisections += both is not None
            failure = error
        else:
            if not depth:
                self.caps.relax(key)
            return ShareRun(list(pieces), run.seconds, run.copying)
        if both is None:
            self._statistics.isolated += 1
            return ShareRun([(parts[0], failure)], 0.0)
        first, second = [await self.run(key, half, depth + 1) for half in both]
        return ShareRun(
            first.answered + second.answered, first.seconds + second.seconds, first.copying + second.copying
        )


def _worker_lost(lost: WorkerLost) -> Refusal:
    """The refusal of a caller whose work ends processes, or is given up with one."""
    if lost.loss is Loss.OVERRAN:
        return Refusal("worker_lost", "this call took more than a hundred times its predicted time and was given up")
    return Refusal("worker_lost", f"the process that computed this call was lost twice; the second one: {lost.loss}")
