"""A fleet of replicas as a sequence of events: who takes a call, when it is batched, computed and answered.

A replica is one event loop, the service's own queue, its devices, and perhaps fronts: loops that read requests and
write answers for it. A call takes each of its loops twice, for the request and for the answer; a free device takes the
batch that is due first, at once, and is busy for a launch and the matrices' seconds. Routers know of a queue what Ray's
routers know: its length when they last sent there, less what they have sent and has been answered since. Nothing fails,
is refused or has a deadline here.

`simulate` is a pure function of its arguments.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from matfn_service.queue import KeyedQueue, Limit

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "Fleet",
    "Kind",
    "Loop",
    "Outcome",
    "Policy",
    "Trace",
    "View",
    "by_key",
    "shorter_of_two",
    "simulate",
    "uniform",
]

_UNBOUNDED: Final = Limit(math.inf, 1 << 62)
_AGING: Final = 10.0
_LEAST_SECONDS: Final = 0.002  # of matfn_service.dispatcher: a batch is not made smaller than this
_CAME, _READY, _DONE, _MADE = range(4)


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls that are all alike.

    Attributes:
        hint: the header that routers see.
        key: what must be equal in a batch.
        matrices: in one call.
        seconds: predicted device time of them.
        bytes: held while the call waits or runs.
        received: size of the request.
        sent: size of the answer.
    """

    hint: str
    key: Hashable
    matrices: int
    seconds: float
    bytes: int
    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Calls in the order in which they come: when, and the index of each one's kind."""

    kinds: tuple[Kind, ...]
    times: NDArray[np.float64]
    which: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Loop:
    """What an event loop takes for its part of a call.

    Attributes:
        call: seconds without the bytes.
        byte: seconds for each byte received or sent.
    """

    call: float = 0.0
    byte: float = 0.0

    def seconds(self, size: int) -> float:
        """For a request or an answer of so many bytes, half of the call."""
        return self.call / 2 + size * self.byte


@dataclass(frozen=True, slots=True)
class Fleet:
    """What calls are sent to.

    Attributes:
        replicas: how many.
        routers: how many; calls come to them in turn.
        devices: of each replica.
        launch: seconds of a batch beside its matrices.
        limit: the largest batch.
        parts: one batch takes at most the work of its replica, waiting and under way, divided by this.
        loop: the event loop of a replica.
        fronts: of each replica; its calls come to them in turn.
        front: the event loop of a front.
        hop: seconds between a caller and a replica, each way.
        byte: seconds that a byte takes on the wire.
    """

    replicas: int
    routers: int = 1
    devices: int = 1
    launch: float = 0.0
    limit: Limit = _UNBOUNDED
    parts: int = 1
    loop: Loop = Loop()
    fronts: int = 0
    front: Loop = Loop()
    hop: float = 0.0
    byte: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trace.

    Attributes:
        finished: when each call's answer was with its caller.
        replica: which replica each call was sent to.
        batches: rows (launched, calls, matrices, predicted seconds), one a batch.
        device_seconds: that each replica's devices were busy.
        loop_seconds: that each replica's event loop was busy.
        front_seconds: that each front was busy.
    """

    finished: NDArray[np.float64]
    replica: NDArray[np.int64]
    batches: NDArray[np.float64]
    device_seconds: NDArray[np.float64]
    loop_seconds: NDArray[np.float64]
    front_seconds: NDArray[np.float64]


class View:
    """What one router knows."""

    def __init__(self, replicas: int) -> None:
        self.lengths = np.zeros(replicas, np.int64)
        self.total = 0
        self._placed: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def alike(self, hint: str) -> Mapping[int, int]:
        """How many calls of the router's own each replica has with this hint."""
        return self._placed[hint]

    def place(self, hint: str, replica: int, length: int) -> None:
        """Counts a call that the router has sent, and takes the length that the replica told when it accepted."""
        self._placed[hint][replica] += 1
        self._learn(replica, length)

    def remove(self, hint: str, replica: int) -> None:
        """Counts one of its calls that has been answered."""
        placed = self._placed[hint]
        placed[replica] -= 1
        if not placed[replica]:
            del placed[replica]
        self._learn(replica, max(0, int(self.lengths[replica]) - 1))

    def _learn(self, replica: int, length: int) -> None:
        self.total += length - int(self.lengths[replica])
        self.lengths[replica] = length


class Policy(Protocol):
    """How a router chooses the replica for a call."""

    def __call__(self, hint: str, view: View, chance: random.Random, /) -> int:
        """The number of the replica."""


def uniform(hint: str, view: View, chance: random.Random) -> int:
    """Any replica."""
    del hint
    return int(chance.random() * len(view.lengths))


def shorter_of_two(hint: str, view: View, chance: random.Random) -> int:
    """The shorter queue of two, as Ray Serve does by itself."""
    one, other = uniform(hint, view, chance), uniform(hint, view, chance)
    return one if view.lengths[one] <= view.lengths[other] else other


def by_key(slack: float) -> Policy:
    """The choice of `matfn_service.affinity.preferred`, made without a look at every replica."""

    def choose(hint: str, view: View, chance: random.Random) -> int:
        bound = slack * (view.total + 1) / len(view.lengths)
        fitting = [
            (count, -int(view.lengths[replica]), replica)
            for replica, count in view.alike(hint).items()
            if view.lengths[replica] < bound
        ]
        if fitting:
            return max(fitting)[-1]
        shortest = np.flatnonzero(view.lengths == view.lengths.min())
        return int(shortest[int(chance.random() * len(shortest))])

    return choose


def simulate(trace: Trace, fleet: Fleet, policy: Policy, seed: int) -> Outcome:
    """Plays the trace to its end, when every call has been answered."""
    return _Run(trace, fleet, policy, random.Random(seed)).outcome()  # noqa: S311 - a simulation's chance, repeatable


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A call in a replica's queue."""

    number: int
    kind: Kind
    arrived: float

    @property
    def key(self) -> Hashable:
        return self.kind.key

    @property
    def seconds(self) -> float:
        return self.kind.seconds

    @property
    def bytes(self) -> int:
        return self.kind.bytes

    @property
    def items(self) -> int:
        return 1

    @property
    def tenant(self) -> str:
        return ""

    @property
    def priority(self) -> int:
        return 0

    @property
    def deadline(self) -> float:
        return math.inf


class _Busy:
    """An event loop, which does one thing after the other."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._free = 0.0

    def take(self, now: float, seconds: float) -> float:
        """When it has done work of so many seconds, after all that came before."""
        self._free = max(self._free, now) + seconds
        self.seconds += seconds
        return self._free


class _Replica:
    """An event loop, its fronts, a queue and devices."""

    def __init__(self, fleet: Fleet) -> None:
        self.queue: KeyedQueue[_Waiting] = KeyedQueue(_UNBOUNDED, _AGING)
        self.loop = _Busy()
        self.fronts = [_Busy() for _ in range(fleet.fronts)]
        self.free = fleet.devices
        self.device_seconds = 0.0
        self.running = 0.0
        self._fleet = fleet

    def front(self, number: int) -> _Busy:
        """The front that a call came to."""
        return self.fronts[number % len(self.fronts)]

    @property
    def limit(self) -> Limit:
        """The largest batch now, as `matfn_service.dispatcher` shares what waits among workers."""
        share = (self.queue.seconds + self.running) / self._fleet.parts
        return Limit(min(self._fleet.limit.seconds, max(share, _LEAST_SECONDS)), self._fleet.limit.bytes)


class _Run:
    """One simulation under way."""

    def __init__(self, trace: Trace, fleet: Fleet, policy: Policy, chance: random.Random) -> None:
        self._trace, self._fleet, self._policy, self._chance = trace, fleet, policy, chance
        self._replicas = [_Replica(fleet) for _ in range(fleet.replicas)]
        self._lengths = [0] * fleet.replicas
        self._routers = [View(fleet.replicas) for _ in range(fleet.routers)]
        self._events: list[tuple[float, int, int, int, Sequence[_Waiting]]] = []
        self._batches: list[tuple[float, int, int, float]] = []
        self._sent = np.full(len(trace.times), -1)
        self._finished = np.full(len(trace.times), np.nan)
        self._steps = (self._came, self._ready, self._done, self._made)

    def outcome(self) -> Outcome:
        """Everything that happens, in the order of time."""
        for number, now in enumerate(self._trace.times.tolist()):
            self._until(now)
            self._route(number, now)
        self._until(math.inf)
        return Outcome(
            self._finished,
            self._sent,
            np.array(self._batches).reshape(-1, 4),
            np.array([replica.device_seconds for replica in self._replicas]),
            np.array([replica.loop.seconds for replica in self._replicas]),
            np.array([front.seconds for replica in self._replicas for front in replica.fronts]),
        )

    def _until(self, now: float) -> None:
        while self._events and self._events[0][0] <= now:
            at, event, _, index, calls = heapq.heappop(self._events)
            self._steps[event](at, index, calls)

    def _push(self, at: float, event: int, index: int, calls: Sequence[_Waiting]) -> None:
        heapq.heappush(self._events, (at, event, calls[0].number, index, calls))

    def _route(self, number: int, now: float) -> None:
        """Sends a call to a replica, where a front reads it, or the loop itself."""
        kind = self._trace.kinds[self._trace.which[number]]
        view = self._routers[number % self._fleet.routers]
        index = self._policy(kind.hint, view, self._chance)
        self._lengths[index] += 1
        view.place(kind.hint, index, self._lengths[index])
        self._sent[number] = index
        replica = self._replicas[index]
        there = now + self._fleet.hop + kind.received * self._fleet.byte
        if replica.fronts:
            read = replica.front(number).take(there, self._fleet.front.seconds(kind.received))
            self._push(read, _CAME, index, [_Waiting(number, kind, read)])
        else:
            self._came(there, index, [_Waiting(number, kind, there)])

    def _came(self, now: float, index: int, calls: Sequence[_Waiting]) -> None:
        """The loop takes a call."""
        (call,) = calls
        taken = self._replicas[index].loop.take(now, self._fleet.loop.seconds(call.kind.received))
        self._push(taken, _READY, index, [_Waiting(call.number, call.kind, taken)])

    def _ready(self, now: float, index: int, calls: Sequence[_Waiting]) -> None:
        """A call waits, or is computed at once."""
        self._replicas[index].queue.push(*calls)
        self._launch(now, index)

    def _launch(self, now: float, index: int) -> None:
        replica = self._replicas[index]
        calls = replica.queue.next_batch(now, replica.limit) if replica.free else []
        if not calls:
            return
        seconds = math.fsum(call.seconds for call in calls)
        replica.free -= 1
        replica.running += seconds
        replica.device_seconds += self._fleet.launch + seconds
        self._batches.append((now, len(calls), sum(call.kind.matrices for call in calls), seconds))
        self._push(now + self._fleet.launch + seconds, _DONE, index, calls)

    def _done(self, now: float, index: int, calls: Sequence[_Waiting]) -> None:
        """A batch is done: the device takes the next one, the loop answers."""
        replica = self._replicas[index]
        replica.free += 1
        replica.running -= math.fsum(call.seconds for call in calls)
        self._launch(now, index)
        self._lengths[index] -= len(calls)
        for call in calls:
            self._routers[call.number % self._fleet.routers].remove(call.kind.hint, index)
            made = replica.loop.take(now, self._fleet.loop.seconds(call.kind.sent))
            if replica.fronts:
                self._push(made, _MADE, index, [call])
            else:
                self._answer(made, call)

    def _made(self, now: float, index: int, calls: Sequence[_Waiting]) -> None:
        """The front that read the call writes its answer."""
        (call,) = calls
        front = self._replicas[index].front(call.number)
        self._answer(front.take(now, self._fleet.front.seconds(call.kind.sent)), call)

    def _answer(self, now: float, call: _Waiting) -> None:
        self._finished[call.number] = now + self._fleet.hop + call.kind.sent * self._fleet.byte
