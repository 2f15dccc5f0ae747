"""The part of a distributed tensor that this process holds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["local_shard"]


def local_shard(tensor: Tensor) -> Tensor:
    """A DTensor's local shard, which shares its memory; any other tensor as it is.

    A DTensor proves that its module was imported, so that nobody else has to import it.
    """
    distributed: Any = sys.modules.get("torch.distributed.tensor")
    if distributed is None or not isinstance(tensor, distributed.DTensor):
        return tensor
    shard: Tensor = tensor.to_local()
    return shard
