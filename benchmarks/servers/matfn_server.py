"""matfn as it is served, on the stand-in device or on this machine's cores.

python benchmarks/servers/matfn_server.py PORT_OR_SOCKET stand_in|msign
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from workloads import MATRIX_SECONDS, occupy

from matfn_kernels import Certificate, Evaluation, Outcome, Profile, concatenate
from matfn_service.encoding import encode
from matfn_service.executor import Run, computing_threads
from matfn_service.server import serve
from matfn_service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matfn_service.assembly import Part
    from matfn_service.pulse import Loss


_ANY_ORDER: Final = 1 << 20  # below the least order that was measured, a profile is constant


class StandIn:
    """One worker whose answers are the inputs, after the stand-in device's time for them."""

    workers = 1
    ahead = 0
    alive = 1
    losses: ClassVar[Mapping[Loss, int]] = {}
    device = "stand-in"

    def __init__(self) -> None:
        self._threads = computing_threads(1, "stand-in")

    async def load_profile(self, path: Path | None) -> Profile:
        """A profile by which a polar factor, three operations by svd, takes what a matrix takes here."""
        del path
        share = MATRIX_SECONDS / 3
        return Profile("stand-in", tuple((row[0], row[1], _ANY_ORDER, share) for row in Profile.nominal().seconds))

    async def run(self, parts: Sequence[Part]) -> Run:
        """Occupies the device with one share."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _run, parts)

    async def watch(self) -> None:
        """Nothing to look after."""

    def close(self) -> None:
        """Lets the thread end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _run(parts: Sequence[Part]) -> Run:
    started = time.perf_counter()
    batch = concatenate([part.batch for part in parts])
    occupy(batch.items)
    first = parts[0].program
    certificate = Certificate(Outcome.CONVERGED, None, 0.0, 1.0, first.method, str(first.precision), 0)
    whole = encode(Evaluation(tuple(batch.inputs.values()), (certificate,) * batch.items))
    ends = list(accumulate(part.items for part in parts))
    rows = [whole.rows(end - part.items, end) for part, end in zip(parts, ends, strict=True)]
    return Run(rows, time.perf_counter() - started)


def main(place: str, workload: str) -> int:
    """Serves until it is told to stop."""
    settings = Settings.model_validate({"port": int(place)} if place.isdigit() else {"uds": Path(place)})
    return serve(settings, StandIn() if workload == "stand_in" else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
