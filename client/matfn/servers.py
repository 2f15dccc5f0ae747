"""Several servers behind one client, without I/O: the choice of a server for each request, and the state of each.

Rules of this file:
- A request goes to the server with the fewest requests of this client under way; equals take turns.
- A server that cannot be reached, hangs up or answers 503 rests, each time longer, and the request goes to the next
  one at once: every function is pure, so it does no harm if the first has begun. One that takes too long rests too;
  its request has no time left.
- Once a rest is over one request tries the server, while the others stay away for as long again.
- Rest is a preference: where all servers rest they are tried all the same.
- Who was told by a busy server to come back comes back to that server, which keeps room.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from matfn.errors import MatfnError, TransportTimeout
from matfn.forks import Slots
from matfn.retry import may_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import TracebackType
    from typing import Self

    from matfn.http1 import Request, Response

__all__ = ["Journey", "Servers", "Standing", "preferred"]

_TOO_MANY_REQUESTS: Final = 429  # as in http.HTTPStatus, which is slow to import
_SERVICE_UNAVAILABLE: Final = 503
_FIRST_REST_S: Final = 0.1
_LONGEST_REST_S: Final = 5.0
_DOUBLINGS: Final = 16
_MOST_RESERVATIONS: Final = 1024


@dataclass(frozen=True, slots=True)
class Standing:
    """State of a server, as a client knows it.

    Attributes:
        under_way: requests that wait for its answer.
        failures: how often it has failed, one after the other.
        rests_until: when it may be tried again.
    """

    under_way: int = 0
    failures: int = 0
    rests_until: float = -math.inf

    @property
    def rest(self) -> float:
        """Seconds of rest after so many failures."""
        return min(_LONGEST_REST_S, _FIRST_REST_S * 2.0 ** min(self.failures - 1, _DOUBLINGS)) if self.failures else 0.0

    def entered(self, now: float) -> Standing:
        """With one request more; a server on trial has one at a time."""
        return Standing(self.under_way + 1, self.failures, now + self.rest if self.failures else self.rests_until)

    def answered(self, failures: int) -> Standing:
        """After an answer to a request that was sent when there had been so many failures; later ones still count."""
        left = replace(self, under_way=self.under_way - 1)
        return left if failures < self.failures else Standing(left.under_way)

    def failed(self, failures: int, now: float) -> Standing:
        """After a failure of such a request; those that fail together count once."""
        counted = replace(self, under_way=self.under_way - 1, failures=max(self.failures, failures + 1))
        return replace(counted, rests_until=max(self.rests_until, now + counted.rest))

    def abandoned(self) -> Standing:
        """After a request whose end says nothing of the server."""
        return replace(self, under_way=self.under_way - 1)


def preferred(standings: Sequence[Standing], turn: int, now: float, tried: Collection[int] = ()) -> int:
    """The server that a request goes to next.

    Args:
        standings: what is known of each server.
        turn: the server that comes first among equals.
        now: the time.
        tried: servers that the request has been to.
    """

    def rank(server: int) -> tuple[float, int, int]:
        standing = standings[server]
        return max(standing.rests_until - now, 0.0), standing.under_way, (server - turn) % len(standings)

    return min((server for server in range(len(standings)) if server not in tried), key=rank)


class Servers:
    """The servers of one client, shared between its threads."""

    def __init__(self, number: int, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._standings = [Standing()] * number
        self._turn = random.randrange(number)  # noqa: S311 - spreads clients, hides nothing
        self._reservations: dict[str, int] = {}
        self._lock = Slots()

    def journey(self, request: Request, timeout: float | None) -> Journey:
        """The way of a request through the servers."""
        return Journey(self, dict(request.headers).get("X-Request-Id", ""), timeout)

    def __len__(self) -> int:
        return len(self._standings)

    def enter(self, name: str, tried: Collection[int]) -> tuple[int, int]:
        """The server that the request of this name goes to next, and the number of its failures so far."""
        with self._lock:
            reserved = self._reservations.pop(name, None)
            now = self.clock()
            server = preferred(self._standings, self._turn, now, tried) if reserved is None else reserved
            self._turn = server + 1
            self._standings[server] = self._standings[server].entered(now)
            return server, self._standings[server].failures

    def leave(self, server: int, change: Callable[[Standing], Standing]) -> None:
        """Changes what is known of a server whose request has ended."""
        with self._lock:
            self._standings[server] = change(self._standings[server])

    def remember(self, name: str, server: int) -> None:
        """Sends the next request of this name to this server, which has reserved room for it."""
        with self._lock:
            self._reservations[name] = server
            if len(self._reservations) > _MOST_RESERVATIONS:
                del self._reservations[next(iter(self._reservations))]


class Journey:
    """A request on its way: a context a server, left by the answer, or by an error where no other server is left.

    while True:
        with journey:
            response = ...  # of server number journey.server, in journey.remaining seconds
            if journey.ends_with(response):
                return response
    """

    def __init__(self, servers: Servers, name: str, timeout: float | None) -> None:
        self._servers = servers
        self._name = name
        self._until = math.inf if timeout is None else servers.clock() + timeout
        self._tried: list[int] = []
        self._failures = 0
        self._is_turned_away = False

    @property
    def server(self) -> int:
        """The number of the server to ask."""
        return self._tried[-1]

    @property
    def remaining(self) -> float | None:
        """Seconds that remain of the timeout."""
        return None if self._until == math.inf else self._until - self._servers.clock()

    def ends_with(self, response: Response) -> bool:
        """Whether this is the answer; if not, another server is asked."""
        if response.status == _TOO_MANY_REQUESTS and (name := response.headers.get("x-request-id")):
            self._servers.remember(name, self.server)
        self._is_turned_away = response.status == _SERVICE_UNAVAILABLE
        return not self._is_turned_away or not self._goes_on

    @property
    def _goes_on(self) -> bool:
        return len(self._tried) < len(self._servers) and self._servers.clock() < self._until

    def __enter__(self) -> Self:
        self._is_turned_away = False
        server, self._failures = self._servers.enter(self._name, self._tried)
        self._tried.append(server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        has_failed = self._is_turned_away or (isinstance(error, MatfnError) and may_pass(error))
        rests = has_failed or isinstance(error, TransportTimeout)
        self._servers.leave(self.server, lambda standing: self._after(standing, error, has_failed=rests))
        return error is not None and has_failed and self._goes_on

    def _after(self, standing: Standing, error: BaseException | None, *, has_failed: bool) -> Standing:
        if has_failed:
            return standing.failed(self._failures, self._servers.clock())
        return standing.answered(self._failures) if error is None else standing.abandoned()
