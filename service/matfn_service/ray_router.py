"""The request router of the Ray deployment; it runs in every proxy, so it loads nothing of the service."""

from __future__ import annotations

import logging
import os
import random
from typing import TYPE_CHECKING, Final

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from matfn_service.affinity import favourite

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KEY_HEADER", "KeyRouter"]

KEY_HEADER: Final = "X-Matfn-Key"
_HEADER_SETTING: Final = "RAY_SERVE_SESSION_ID_HEADER_KEY"
_SLACK: Final = 1.5

_log = logging.getLogger("ray.serve")


class KeyRouter(RequestRouter):
    """Brings calls of one key together at one replica while its queue is not much longer than the others'.

    The key is what Ray calls a session: the header that RAY_SERVE_SESSION_ID_HEADER_KEY names in the environment of the
    proxies. A request without one, and one whose replica is full, goes to the shorter queue of two.
    """

    def initialize_state(self, slack: float = _SLACK) -> None:
        """Takes the settings of `request_router_kwargs`: how many times the mean queue a replica may have."""
        self._slack = slack
        if os.environ.get(_HEADER_SETTING, "").lower() != KEY_HEADER.lower():
            _log.warning("calls find no company: set %s=%s where Ray is started", _HEADER_SETTING, KEY_HEADER)

    async def choose_replicas(
        self, candidate_replicas: Sequence[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The replicas to try, group after group; Ray takes the shortest queue of a group."""
        if not candidate_replicas:
            return []
        two = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        if pending_request is None:
            return [two]
        pending_request.routing_context.should_backoff = True
        key = pending_request.metadata.session_id
        return [[self._favourite(key, candidate_replicas)], two] if key else [two]

    def _favourite(self, key: str, candidates: Sequence[RunningReplica]) -> RunningReplica:
        replicas = {replica.replica_id.unique_id: replica for replica in candidates}
        cache = self.replica_queue_len_cache
        queues = {name: cache.get(replica.replica_id) or 0 for name, replica in replicas.items()}
        return replicas[favourite(key, queues, self._slack)]
