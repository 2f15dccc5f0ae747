"""Backends: which BLAS or LAPACK computes a routine, by dtype and order.

torch's own library (MKL in its wheels for x86) is the default. The profile of a kind of machine names the orders from
which another library is faster there, and the evaluation of a plan computes with the profile's choice: no product asks
for the processor or the environment.
"""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ["ALL_OPENBLAS", "NEVER", "ONEDNN", "TORCHS_OWN", "Backends", "Library", "Routine", "chosen", "using"]

Library: TypeAlias = Literal["openblas", "onednn"]
Routine: TypeAlias = Literal["products", "cholesky", "eigh", "others"]
"""Matrix products, Cholesky factorisations, Hermitian eigendecompositions, and all other routines."""
Row: TypeAlias = tuple[str, str, str, int]

NEVER: Final = 1 << 62
"""An order that no matrix has."""
_DTYPES: Final = ("float32", "float64", "complex64", "complex128")
_OFFERED: Final = {
    "openblas": {(routine, dtype) for routine in get_args(Routine) for dtype in _DTYPES},
    "onednn": {("products", "float32")},
}
"""Routines of each library: oneDNN has products of real matrices in single precision."""


@dataclass(frozen=True, slots=True)
class Backends:
    """The least order from which another library than torch's own computes.

    Attributes:
        rows: (library, routine, dtype, least order), the library openblas or onednn.

    Raises:
        ValueError: if a row names no routine of a library, or two rows the same one.
    """

    rows: tuple[Row, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for row in self.rows:
            _check(*row)
        if len({row[:3] for row in self.rows}) < len(self.rows):
            raise ValueError("it names the backend of a routine twice")
        object.__setattr__(self, "_hash", zlib.crc32(repr(self.rows).encode()))

    def __hash__(self) -> int:
        """Computed once: every product looks up its library by it."""
        return self._hash

    def least(self, library: Library, routine: Routine, dtype: torch.dtype) -> int:
        """The least order from which a library computes a routine, `NEVER` if it does not."""
        key = (library, routine, str(dtype).removeprefix("torch."))
        return next((row[3] for row in self.rows if row[:3] == key), NEVER)


def _check(library: str, routine: str, dtype: str, order: int) -> None:
    """Checks a row.

    Raises:
        ValueError: if the library has no such routine, or the order is no positive integer.
    """
    if (routine, dtype) not in _OFFERED.get(library, set()) or type(order) is not int or not 0 < order < NEVER:
        raise ValueError(f"the row {[library, routine, dtype, order]} names no backend")


TORCHS_OWN: Final = Backends()
"""torch's own library for every routine."""
ALL_OPENBLAS: Final = Backends(
    tuple(("openblas", routine, dtype, 1) for routine in get_args(Routine) for dtype in _DTYPES)
)
"""OpenBLAS for every routine at every order."""
ONEDNN: Final = Backends((("onednn", "products", "float32", 1),))
"""oneDNN for products of large matrices at every order, torch's own library for the rest."""

_chosen: ContextVar[Backends] = ContextVar("backends", default=TORCHS_OWN)


def chosen() -> Backends:
    """The backends that compute on this thread."""
    return _chosen.get()


@contextmanager
def using(backends: Backends) -> Iterator[None]:
    """Computes with these backends on this thread within the block."""
    token = _chosen.set(backends)
    try:
        yield
    finally:
        _chosen.reset(token)
