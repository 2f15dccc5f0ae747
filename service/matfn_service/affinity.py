"""Which replica the calls of a key meet at: rendezvous hashing with bounded queues.

A key ranks the replicas by a hash of both names, so that all routers agree without a word, and a replica that comes or
goes moves no keys but its own. The first in rank takes the call unless its queue is longer than its share allows; then
the next one does, so that a key which everybody calls spreads over as many replicas as it takes.

Thaler, Ravishankar: Using name-based mappings to increase hit rates, 1998. Mirrokni, Thorup, Zadimoghaddam: Consistent
hashing with bounded loads, 2018.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["favourite"]


def favourite(key: str, queues: Mapping[str, int], slack: float) -> str:
    """The replica that a call of this key goes to.

    Args:
        key: what calls that may share a batch have in common.
        queues: how many requests wait or run at each replica, by its name.
        slack: how many times the mean queue one replica may have, at least 1.
    """
    bound = math.ceil(slack * (sum(queues.values()) + 1) / len(queues))
    return max((name for name, length in queues.items() if length < bound), key=lambda name: _rank(key, name))


def _rank(key: str, name: str) -> bytes:
    return blake2b(f"{key}\0{name}".encode(), digest_size=8).digest()
