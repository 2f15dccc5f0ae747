"""The structures of native.h, in which plans are handed to the library."""

from __future__ import annotations

import ctypes
from struct import Struct
from typing import Final

__all__ = ["CALLS", "MAX_STEPS", "PROBES", "LowRankPlan", "PolarPlan", "PowersPlan", "TallPlan", "TrianglesPlan"]

PROBES: Final = 4
"""Columns of random numbers on which certificates are taken (`probes`), a number that the library is compiled with."""
MAX_STEPS: Final = 24
"""Room for the steps of a schedule, which the library is compiled with: the longest in use has 15."""


class PowersPlan(ctypes.Structure):
    """`roots_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "order", "k", "s", "r", "whole_s", "whole_r")),
        *((name, ctypes.c_int64) for name in ("identity_too", "schedules")),
        *((name, ctypes.c_double) for name in ("floor", "bound", "reach")),
        *((name, ctypes.c_void_p) for name in ("probes", "bounds", "steps", "coefficients")),
    )


class PolarPlan(ctypes.Structure):
    """`polar_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "rows", "columns", "schedules")),
        *((name, ctypes.c_double) for name in ("floor", "reach")),
        *((name, ctypes.c_void_p) for name in ("probes", "bounds", "steps", "coefficients")),
    )


class TallPlan(ctypes.Structure):
    """`tall_plan` of native.h."""

    _fields_ = (*((name, ctypes.c_int64) for name in ("items", "rows", "columns")), ("probes", ctypes.c_void_p))


class LowRankPlan(ctypes.Structure):
    """`low_rank_plan` of native.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("items", "order", "rank", "columns", "transposed", "inverse"))


class TrianglesPlan(ctypes.Structure):
    """`triangles_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "order", "upper", "unit")),
        ("spacing", ctypes.c_double),
        ("probes", ctypes.c_void_p),
    )


CALLS: Final = {
    "products": Struct("2q 4q 4q 4q q 2d"),
    "substitutions": Struct("2q 4q 4q q"),
    "cholesky": Struct("5q"),
    "eigh": Struct("6q"),
    "svd": Struct("8q"),
    "inverses": Struct("5q"),
}
"""Plans of calls of BLAS and LAPACK by function: numbers and addresses, all of eight bytes, as in native.h."""
