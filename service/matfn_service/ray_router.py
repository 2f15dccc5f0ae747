"""The request router of the Ray deployment; it runs in every proxy, so it loads nothing of the service."""

from __future__ import annotations

import logging
import os
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from matfn_service.affinity import Placements, preferred

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Sequence

__all__ = ["KEY_HEADER", "KeyRouter"]

KEY_HEADER: Final = "X-Matfn-Key"
_HEADER_SETTING: Final = "RAY_SERVE_SESSION_ID_HEADER_KEY"
_SLACK: Final = 1.25
_FORMING_SECONDS: Final = 10.0

_log = logging.getLogger("ray.serve")


class KeyRouter(RequestRouter):
    """Sends calls of one key to one replica while its queue is not much longer than the others'.

    The key is what Ray calls a session: the header that RAY_SERVE_SESSION_ID_HEADER_KEY names in the environment of the
    proxies. A request without one, and one whose replica is full, goes to the shorter queue of two.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._placements = Placements(time.monotonic, _FORMING_SECONDS)

    def initialize_state(self, slack: float = _SLACK) -> None:
        """Takes the settings of `request_router_kwargs`: how many times the mean queue a replica may have."""
        self._slack = slack
        if os.environ.get(_HEADER_SETTING, "").lower() != KEY_HEADER.lower():
            _log.warning("calls are not grouped by key: set %s=%s where Ray is started", _HEADER_SETTING, KEY_HEADER)

    async def choose_replicas(
        self, candidate_replicas: Sequence[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The replicas to try, group after group; Ray takes the shortest queue of a group."""
        if not candidate_replicas:
            return []
        shuffled = random.sample(candidate_replicas, len(candidate_replicas))  # equals are not always the same
        two = shuffled[:2]
        if pending_request is None:
            return [two]
        pending_request.routing_context.should_backoff = True
        key, name = pending_request.metadata.session_id, pending_request.metadata.internal_request_id
        if not key:
            return [two]
        pending_request.future.add_done_callback(partial(self._note, name, key))
        return [[self._preferred(key, shuffled)], two]

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """A request has ended, or its replica has refused it."""
        del replica_id
        self._placements.remove(internal_request_id)

    def _preferred(self, key: str, candidates: Sequence[RunningReplica]) -> RunningReplica:
        replicas = {replica.replica_id.unique_id: replica for replica in candidates}
        cache = self.replica_queue_len_cache
        queues = {name: cache.get(replica.replica_id) or 0 for name, replica in replicas.items()}
        return replicas[preferred(queues, self._placements.alike(key), self._slack)]

    def _note(self, name: str, key: str, routed: Future[RunningReplica]) -> None:
        if not routed.cancelled():
            self._placements.add(name, key, routed.result().replica_id.unique_id)
