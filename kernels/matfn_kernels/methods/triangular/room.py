"""Answers of triangular systems that leave the range of float64, on the way or at the end, computed in smaller units.

T and B by powers of two, T large and B small, round nothing and give T^-1 B by a power of two smaller. Only matrices
that have no finite answer or no estimate otherwise are computed so; a GPU would have to wait for the answer whether
there are any, and computes none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg.scaling import normalise, overflows, rescale

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from matfn_kernels.programs.findings import Findings

__all__ = ["with_room"]

_KNOWN: Final = 0.1
"""Largest error by which an answer is known to be out of range."""
_ROOM: Final = 256
"""Exponent of the largest entry of T, of B below 1: a quarter of float64's, so that products of T with T keep in range
and an answer has 2^512 times as much room."""


def with_room(
    found: Findings, parts: Mapping[str, Tensor], run: Callable[[dict[str, Tensor]], Findings], dtype: torch.dtype
) -> Findings:
    """The findings, those of matrices without an answer or an estimate from the equations in smaller units.

    Args:
        found: of the equations as they are, without exponents.
        parts: the triangle t, or its diagonal and generators diag, q and k, and perhaps b, in double precision.
        run: computes such parts.
        dtype: of the outputs.
    """
    if not found.error.is_cpu:
        return found
    lost = ~(found.error.isfinite() & torch.isfinite(found.outputs[0].sum((-2, -1))))
    if not bool(lost.any()):
        return found
    rows = lost.nonzero().flatten()
    scaled, exponent = _in_smaller_units({name: part[rows] for name, part in parts.items()})
    again = run(scaled)
    exponents = torch.zeros(len(found.error), dtype=torch.int64).index_copy(0, rows, exponent)
    lacking = found.exponents[0] if found.exponents else None
    if lacking is not None:
        exponents = lacking.to(torch.int64).index_copy(0, rows, exponent)
    value = found.outputs[0].index_copy(0, rows, again.outputs[0].to(found.outputs[0].dtype))
    columns = {
        name: getattr(found, name).index_copy(0, rows, getattr(again, name))
        for name in ("residual", "error", "condition")
    }
    over = overflows(value, exponents, dtype) & (columns["error"] <= _KNOWN)
    return replace(found, outputs=(value,), exponents=(exponents,), failures={"over_range": over}, **columns)


def _in_smaller_units(parts: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """The parts with the largest entry of T near 2^256 and that of B near its inverse, and the exponent of T^-1 B."""
    leading = "t" if "t" in parts else "diag"
    t, exponent = normalise(parts[leading])
    scaled = {**parts, leading: rescale(t, torch.full_like(exponent, _ROOM))}
    if "q" in parts:  # only the product of the generators counts
        (q, left), (scaled["k"], right) = normalise(parts["q"]), normalise(parts["k"])
        scaled["q"] = rescale(q, left + right + _ROOM - exponent)
    exponent = _ROOM - exponent
    if "b" in parts:
        b, down = normalise(parts["b"])
        scaled["b"] = rescale(b, torch.full_like(down, -_ROOM))
        exponent = exponent + down + _ROOM
    return scaled, exponent
