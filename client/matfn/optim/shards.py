"""The part of a distributed tensor that this process holds.

A DTensor proves that its module was imported, so that nobody else has to import it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["is_sharded", "local_shard"]


def local_shard(tensor: Tensor) -> Tensor:
    """A DTensor's local shard, which shares its memory; any other tensor as it is."""
    if not _is_dtensor(tensor):
        return tensor
    distributed: Any = tensor
    shard: Tensor = distributed.to_local()
    return shard


def is_sharded(tensor: Tensor) -> bool:
    """Whether no process need hold the whole tensor."""
    distributed: Any = tensor
    return _is_dtensor(tensor) and not all(placement.is_replicate() for placement in distributed.placements)


def _is_dtensor(tensor: Tensor) -> bool:
    module: Any = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)
