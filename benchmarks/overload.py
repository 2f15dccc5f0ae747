"""What callers see of a server that is asked for four times what it can do.

The device is the stand-in, made slow enough that HTTP is no bottleneck. Three questions, each with a bound, and the
exit code 1 if one is not held:

- Open loop at four times the capacity, every call with a deadline: is the device kept busy, are those who are taken
  answered in time, and are the others told at once?
- Closed loop with four times the callers that the queue holds, each sleeping as told: do they find room when they come
  back?
- In both, does everybody get one answer, and their own?

    python benchmarks/overload.py [SECONDS]
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

import uvloop

from callers import Answer, Connection, call
from contenders import CONTENDERS, running
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator

_LAUNCH, _MATRIX = 0.01, 0.005
_BATCH, _PLACES = 16, 96
_CALL_BYTES: Final = 3 * 64 * 64 * 4
_CAPACITY: Final = _BATCH / (_LAUNCH + _BATCH * _MATRIX)
_EXCESS: Final = 4
_DEADLINE: Final = 1.5
_MOST: Final = 0.9  # of the capacity, and of the first retries
_AT_ONCE: Final = 0.05
_SETTINGS: Final = {
    "STAND_IN_LAUNCH": str(_LAUNCH),
    "STAND_IN_MATRIX": str(_MATRIX),
    "MATFN_BATCH_BYTES": str(_BATCH * _CALL_BYTES),
    "MATFN_QUEUE_BYTES": str(_PLACES * _CALL_BYTES),
    "MATFN_MAX_REQUEST_BYTES": str(_CALL_BYTES),
}


@dataclass(slots=True)
class Seen:
    """What all callers of a run saw."""

    began: float = field(default_factory=time.perf_counter)
    done: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    late: int = 0
    lost: int = 0
    wrong: int = 0
    retries: int = 0
    kept: int = 0

    def take(self, answer: Answer, expected: bytes) -> None:
        """Counts one answer."""
        if answer.is_done:
            self.done.append(answer.seconds)
            self.ends.append(time.perf_counter() - self.began)
            self.wrong += expected not in answer.body
        elif answer.is_busy:
            self.refused.append(answer.seconds)
        else:
            self.late += 1


async def _open_loop(address: tuple[str, int], seconds: float) -> Seen:
    """Calls leave by the clock, whatever happens to those before."""
    seen, idle = Seen(), list[Connection]()
    async with asyncio.TaskGroup() as group:
        for number in range(int(_EXCESS * _CAPACITY * seconds)):
            await asyncio.sleep(seen.began + number / (_EXCESS * _CAPACITY) - time.perf_counter())
            group.create_task(_one_call(address, number, seen, idle))
    await _leave(idle, seen)
    return seen


async def _one_call(address: tuple[str, int], number: int, seen: Seen, idle: list[Connection]) -> None:
    connection = idle.pop() if idle else await Connection(*address).__aenter__()
    body, expected = call(number, _DEADLINE)
    try:
        seen.take(await connection.post(body), expected)
    except (OSError, asyncio.IncompleteReadError):
        seen.lost += 1
    else:
        idle.append(connection)


async def _leave(connections: list[Connection], seen: Seen) -> None:
    for connection in connections:
        seen.wrong += connection.has_unasked_bytes
        await connection.__aexit__(None, None, None)


async def _closed_loop(address: tuple[str, int], seconds: float) -> Seen:
    """Callers who wait for their answer, or as long as they are told, and then go on."""
    seen, numbers, until = Seen(), count(), time.perf_counter() + seconds
    connections = [await Connection(*address).__aenter__() for _ in range(_EXCESS * _PLACES)]
    await asyncio.gather(*(_caller(connection, numbers, until, seen) for connection in connections))
    await _leave(connections, seen)
    return seen


async def _caller(connection: Connection, numbers: Iterator[int], until: float, seen: Seen) -> None:
    while time.perf_counter() < until:
        body, expected = call(next(numbers))
        try:
            answer = await connection.post(body)
            seen.take(answer, expected)
            first = True
            while answer.is_busy:
                problem = answer.problem
                await asyncio.sleep(float(str(problem["retry_after_ms"])) / 1e3)
                answer = await connection.post(body, str(problem["request_id"]))
                seen.take(answer, expected)
                seen.retries += first
                seen.kept += first and answer.is_done
                first = False
        except (OSError, asyncio.IncompleteReadError):
            seen.lost += 1
            return


def _rate(seen: Seen, seconds: float) -> float:
    """Answers a second once the queue is full and as long as callers come."""
    warm = seconds / 10
    return sum(warm <= end <= seconds for end in seen.ends) / (seconds - warm)


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else 0.0


def _report(name: str, found: str, *, held: bool) -> bool:
    print(f"| {name} | {found} | {'held' if held else 'MISSED'} |")
    return held


def _check(kind: str, seen: Seen, rate: float) -> Iterator[bool]:
    share = rate / _CAPACITY
    yield _report(
        f"{kind}: goodput", f"{rate:.0f}/s, {share:.0%} of capacity (at least {_MOST:.0%})", held=share >= _MOST
    )
    wrong, lost = seen.wrong, seen.lost
    yield _report(f"{kind}: lost, wrong or twice", f"{lost}, {wrong} of {len(seen.done)} (none)", held=not lost + wrong)


def main(seconds: float) -> int:
    """Prints the table; 0 if all bounds are held."""
    print(f"{provenance()}\n")
    print(f"capacity {_CAPACITY:.0f}/s, {_PLACES} places, {_EXCESS} times as many callers, {seconds:g} s each\n")
    print("| what | found (bound) | |\n|---|---|---|")
    held: list[bool] = []
    for part in (_open, _closed):  # a server each: who never comes back is expected for a while
        with running(CONTENDERS[0], "stand_in", **_SETTINGS) as server:
            assert isinstance(server.address, tuple)
            held += part(server.address, seconds)
    return 0 if all(held) else 1


def _open(address: tuple[str, int], seconds: float) -> Iterator[bool]:
    seen = uvloop.run(_open_loop(address, seconds))
    yield from _check("open loop", seen, _rate(seen, seconds))
    slowest, told = _quantile(seen.done, 0.99), _quantile(seen.refused, 0.99)
    yield _report(
        "open loop: p99 of the answered", f"{slowest:.2f} s (deadline {_DEADLINE} s)", held=slowest <= _DEADLINE
    )
    yield _report(
        "open loop: p99 of the refused", f"{1e3 * told:.1f} ms (below {1e3 * _AT_ONCE:.0f} ms)", held=told < _AT_ONCE
    )
    yield _report("open loop: taken, then too late", f"{seen.late} (none)", held=not seen.late)


def _closed(address: tuple[str, int], seconds: float) -> Iterator[bool]:
    seen = uvloop.run(_closed_loop(address, seconds))
    yield from _check("closed loop", seen, _rate(seen, seconds))
    share = seen.kept / max(1, seen.retries)
    yield _report(
        "closed loop: first retries taken", f"{share:.1%} of {seen.retries} (at least {_MOST:.0%})", held=share >= _MOST
    )


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))
