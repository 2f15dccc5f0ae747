"""The structures of native.h that Python hands over or reads, and the contract by which both sides are compared."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = [
    "BALL_FACTS",
    "CALLS",
    "IN_LANES",
    "MAX_STEPS",
    "OUT_OF_MEMORY",
    "PROBES",
    "RANDOM_FIELDS",
    "BallSlot",
    "BallStep",
    "BallsPlan",
    "ClipFindings",
    "ClipPlan",
    "ExponentialFindings",
    "ExponentialsPlan",
    "GramPolarFindings",
    "GramPolarPlan",
    "Half",
    "HalfPolarFindings",
    "ImageFindings",
    "LockstepPlan",
    "LowRankPlan",
    "PolarFindings",
    "PolarPlan",
    "PowerFindings",
    "PowersPlan",
    "ResidualsPlan",
    "RiccatiFindings",
    "RowsPlan",
    "Rule",
    "SolveFindings",
    "SolvesPlan",
    "SpectralFindings",
    "SpectralPlan",
    "Step",
    "SylvesterFindings",
    "SylvesterPlan",
    "TallPlan",
    "Term",
    "TriangleFindings",
    "TrianglesPlan",
    "UpperFindings",
    "UpperPlan",
    "View",
    "contract",
]

PROBES: Final = 4
"""Columns of random numbers on which certificates are taken (`probes`), a number that the library is compiled with."""
MAX_STEPS: Final = 24
"""Longest schedule of an iteration."""
RANDOM_FIELDS: Final = 4
"""Numbers of 16 bits whose sum is one random number."""
IN_LANES: Final = -1
"""In place of a library's number: matrices are decomposed a lane each."""
OUT_OF_MEMORY: Final = 1
"""Returned by a function that had no memory for its buffers."""


BALL_FACTS: Final = 4
"""Upper bounds of a ball's Frobenius norm and of the 2-norm of its absolute values, a radius about its first part,
and whether a factor exists."""


class Step(IntEnum):
    """The kinds of steps of a program on balls."""

    GIVEN = 0
    DIAGONAL = 1
    PRODUCT = 2
    SUM = 3
    FACTOR = 4
    INVERSE = 5
    ROWS_LIKE = 6
    STRICT = 7
    WIDER = 8


class View(IntFlag):
    """How a step reads a ball: as its transpose, as a ball about its first part."""

    TURNED = 1
    ROUNDED = 2


class Half(IntFlag):
    """A side of the diagonal, without it."""

    UPPER_HALF = 1
    LOWER_HALF = 2


class Rule(IntEnum):
    """Which multiple of the identity is added before a power is taken, as native.h numbers them."""

    NOTHING_ADDED = 0
    PART_ADDED = 1
    LEAST_ADDED = 2
    RANGE_KEPT = 3
    NUMBER_ADDED = 4


class PowersPlan(ctypes.Structure):
    """`roots_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "order", "k", "s", "r", "whole_s", "whole_r")),
        *((name, ctypes.c_int64) for name in ("identity_too", "schedules", "rule")),
        *((name, ctypes.c_double) for name in ("added", "negative", "floor", "bound", "reach")),
        *((name, ctypes.c_void_p) for name in ("probes", "bounds", "steps", "coefficients")),
    )


class PolarPlan(ctypes.Structure):
    """`polar_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "rows", "columns", "schedules")),
        *((name, ctypes.c_double) for name in ("floor", "reach")),
        *((name, ctypes.c_void_p) for name in ("probes", "bounds", "steps", "coefficients")),
    )


class RowsPlan(ctypes.Structure):
    """`rows_plan` of native.h."""

    _fields_ = (("items", ctypes.c_int64), ("length", ctypes.c_int64))


class LockstepPlan(ctypes.Structure):
    """`lockstep_plan` of native.h."""

    _fields_ = (("items", ctypes.c_int64), ("order", ctypes.c_int64))


class SpectralPlan(ctypes.Structure):
    """`spectral_plan` of native.h."""

    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in ("items", "order", "library", "s", "r", "inverse", "pair", "rule", "refine")
        ),
        *((name, ctypes.c_double) for name in ("added", "floor", "negative", "noise", "skew", "law", "skew_law")),
        *((name, ctypes.c_double) for name in ("margin", "near", "least", "negligible")),
        ("probes", ctypes.c_void_p),
    )


class ClipPlan(ctypes.Structure):
    """`clip_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "order")),
        *((name, ctypes.c_double) for name in ("lo", "hi", "noise", "law", "skew_law", "margin")),
        ("probes", ctypes.c_void_p),
    )


class ExponentialsPlan(ctypes.Structure):
    """`exponentials_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "order", "symmetric")),
        ("t", ctypes.c_double),
        ("probes", ctypes.c_void_p),
    )


class GramPolarPlan(ctypes.Structure):
    """`gram_polar_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "rows", "columns", "clips")),
        *((name, ctypes.c_double) for name in ("lo", "hi", "threshold", "noise", "law", "skew_law", "margin")),
        ("probes", ctypes.c_void_p),
    )


class SylvesterPlan(ctypes.Structure):
    """`sylvester_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "columns")),
        *((name, ctypes.c_double) for name in ("stored", "enough", "suspicious", "margin", "rounding")),
        *((name, ctypes.c_double) for name in ("extended", "cancelling", "crude", "hopeless")),
        *((name, ctypes.c_void_p) for name in ("a", "b", "q", "t", "u", "s", "w")),
        *((name, ctypes.c_void_p) for name in ("random", "probes", "other_probes", "x", "findings")),
    )


class UpperPlan(ctypes.Structure):
    """`upper_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "order", "is_logarithm", "nodes", "terms")),
        *((name, ctypes.c_double) for name in ("exponent", "reach", "margin")),
        *((name, ctypes.c_void_p) for name in ("node", "pair", "random")),
    )


class TallPlan(ctypes.Structure):
    """`tall_plan` of native.h."""

    _fields_ = (*((name, ctypes.c_int64) for name in ("items", "rows", "columns")), ("probes", ctypes.c_void_p))


class ResidualsPlan(ctypes.Structure):
    """`residuals_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "rows", "columns")),
        ("probes", ctypes.c_void_p),
        *((name, ctypes.c_double) for name in ("law", "skew_law", "margin")),
    )


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


class SolvesPlan(ctypes.Structure):
    """`solves_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "order", "columns", "upper", "unit", "transposed")),
        ("probes", ctypes.c_void_p),
    )


class _Operand(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("item", "row", "stored")))


class _ProductsPlan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("library", "kind", "m", "k", "n", "panel")),
        *((name, _Operand) for name in ("x", "y")),
        ("out", ctypes.c_void_p),
        *((name, ctypes.c_double) for name in ("alpha", "beta")),
    )


class _SubstitutionsPlan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("library", "kind", "n", "m", "upper", "has_ones")),
        ("t", _Operand),
        ("b", ctypes.c_void_p),
    )


class _CholeskyPlan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("library", "kind", "n")),
        *((name, ctypes.c_void_p) for name in ("a", "exists")),
    )


class _EighPlan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("library", "kind", "n")),
        *((name, ctypes.c_void_p) for name in ("a", "w", "v")),
    )


class _SchurPlan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("library", "kind", "n")),
        *((name, ctypes.c_void_p) for name in ("a", "t", "q")),
    )


class _RealSchurPlan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("library", "kind", "n", "turned")),
        *((name, ctypes.c_void_p) for name in ("a", "t", "q")),
    )


class _SvdPlan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("library", "kind", "m", "n")),
        *((name, ctypes.c_void_p) for name in ("given", "u", "sigma", "vh")),
    )


class _RiccatiPlan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("library", "kind", "n", "m", "discrete", "rounded", "steps")),
        *((name, ctypes.c_double) for name in ("settled", "exact", "vanished", "diverged")),
        *((name, ctypes.c_void_p) for name in ("a", "b", "q", "r", "x", "k", "found")),
    )


@dataclass(frozen=True, slots=True)
class RiccatiFindings:
    """Findings of each Riccati equation, (batch,) float64 each, in the units in which it was solved.

    Attributes:
        found: 1 where there is an answer, 0 where the rest says nothing.
        steps: doublings.
        exponent: X is to be multiplied by this power of two.
        a: ||A||_F, as all norms are.
        b: ||B||.
        q: ||Q||.
        r: ||R||.
        x: ||X||.
        gain: ||K||.
        weight: ||W|| in K = W^-1 H.
        inverse: ||W^-1||.
        loop: ||A - B K||.
        held: ||H||.
        missed: ||W K - H||.
        projected: ||B^H X||.
        image: ||X (A - B K)||.
        push: ||B W^-1 B^H||.
        pressed: ||W^-1 B^H|| in the caller's units of the inputs, but for a common factor.
        own_gain: ||K|| in these units.
        cost: ||K^H R K||.
        missing: the residual's norm.
        terms: the sum of its terms' norms.
        before: the residual's norm before the last Newton step.
        step: the norm of that step, which led to X.
        left: the norm of what it leaves of its linear equation.
        reach: a bound of the norm of the inverse of the derivative before that step.
        unsolved: by how much the equations of that bound are not solved, relative to it.
    """

    found: Tensor
    steps: Tensor
    exponent: Tensor
    a: Tensor
    b: Tensor
    q: Tensor
    r: Tensor
    x: Tensor
    gain: Tensor
    weight: Tensor
    inverse: Tensor
    loop: Tensor
    held: Tensor
    missed: Tensor
    projected: Tensor
    image: Tensor
    push: Tensor
    pressed: Tensor
    own_gain: Tensor
    cost: Tensor
    missing: Tensor
    terms: Tensor
    before: Tensor
    step: Tensor
    left: Tensor
    reach: Tensor
    unsolved: Tensor


class _InversesPlan(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("library", "kind", "n")),
        *((name, ctypes.c_void_p) for name in ("a", "out")),
    )


class BallStep(ctypes.Structure):
    """`ball_step` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("code", "x", "y", "out", "x_view", "y_view", "doubled", "symmetric")),
        *((name, ctypes.c_double) for name in ("sign", "factor")),
        *((name, ctypes.c_void_p) for name in ("at", "exponents")),
        *((name, ctypes.c_int64) for name in ("single", "unread", "ones")),
    )


class BallSlot(ctypes.Structure):
    """`ball_slot` of native.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("rows", "columns", "doubled"))


class BallsPlan(ctypes.Structure):
    """`balls_plan` of native.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("items", "steps", "slots", "largest", "doubled")),
        *((name, ctypes.c_void_p) for name in ("step", "slot", "facts")),
    )


@dataclass(frozen=True, slots=True)
class PowerFindings:
    """Findings of each matrix, (batch,) float64 each, NaN for what was not reached.

    Attributes:
        definite: 1 if A + shift I is proved to be positive definite, -1 if no arithmetic could prove it, else 0.
        asymmetry: ||A - A^T|| / ||A||.
        smallest: the smallest eigenvalue relative to ||A^2||_F^(1/2).
        largest: the largest.
        residual: of the equation of the power, on columns.
        missing: the relative error that it stands for.
        steps: of the iteration.
        exponent: of the power of two that the first power lacks.
        other_exponent: that the other one lacks.
        damping: shift relative to the largest eigenvalue of A.
        shift: the number added to the diagonal.
    """

    definite: Tensor
    asymmetry: Tensor
    smallest: Tensor
    largest: Tensor
    residual: Tensor
    missing: Tensor
    steps: Tensor
    exponent: Tensor
    other_exponent: Tensor
    damping: Tensor
    shift: Tensor


@dataclass(frozen=True, slots=True)
class SpectralFindings:
    """Findings of each matrix, (batch,) float64 each, NaN for what was not reached.

    Attributes:
        open: 1 where there is no answer: another method has to look at the matrix.
        condition: largest over smallest eigenvalue of A + shift I.
        rank: eigenvalues of A above the threshold.
        damping: shift relative to the largest eigenvalue.
        shift: what was added to the diagonal, in the units of A.
        error: relative error that the backward error of the decomposition leaves.
        rounding: relative error of the rounding of the output.
        residual: of the defining equation, on columns.
        asymmetry: ||A - A^T||_F / ||A||_F.
    """

    open: Tensor
    condition: Tensor
    rank: Tensor
    damping: Tensor
    shift: Tensor
    error: Tensor
    rounding: Tensor
    residual: Tensor
    asymmetry: Tensor


@dataclass(frozen=True, slots=True)
class ClipFindings:
    """Findings of each matrix, (batch,) float64 each, NaN for what was not reached.

    Attributes:
        open: 1 where there is no answer: another method has to look at the matrix.
        condition: norm of A over that of its clipping, at least 1.
        error: relative error that the backward error of the decomposition leaves, 0 where nothing is clipped.
        rounding: relative error of the rounding of the output.
        residual: of the decomposition, on columns.
        asymmetry: ||A - A^T||_F / ||A||_F.
    """

    open: Tensor
    condition: Tensor
    error: Tensor
    rounding: Tensor
    residual: Tensor
    asymmetry: Tensor


@dataclass(frozen=True, slots=True)
class ExponentialFindings:
    """Findings of each matrix, (batch,) float64 each, NaN for what was not reached.

    Attributes:
        open: 1 where there is no answer: another method has to look at the matrix.
        condition: of the exponential at A, at least 1.
        error: bound of the relative error.
        residual: largest relative difference of a step from another way to compute it, on columns.
        asymmetry: ||A - A^T||_F / ||A||_F where A is taken as symmetric, else 0.
        exponent: of two, by which the answer has to be multiplied.
        steps: the squarings.
    """

    open: Tensor
    condition: Tensor
    error: Tensor
    residual: Tensor
    asymmetry: Tensor
    exponent: Tensor
    steps: Tensor


@dataclass(frozen=True, slots=True)
class SylvesterFindings:
    """Findings of each equation, (batch,) float64 each, NaN for what was not reached.

    Attributes:
        open: 1 where there is no answer: another method has to look at the equation.
        condition: of the equation, at least 1.
        error: estimate of the relative error.
        residual: relative to the sum of the terms' norms.
    """

    open: Tensor
    condition: Tensor
    error: Tensor
    residual: Tensor


@dataclass(frozen=True, slots=True)
class GramPolarFindings:
    """Findings of each matrix, (batch,) float64 each, NaN for what was not reached.

    Attributes:
        open: 1 where there is no answer: another method has to look at the matrix.
        condition: of the polar factor or of the clipping.
        rank: singular values above the threshold.
        same: 1 where nothing is clipped and the matrix comes back as it is.
        error: relative error that those of the Gram matrix and its eigh leave, infinite where they hide a rank.
        skew: distance of the eigenvectors from orthonormality beyond the law.
        rounding: relative error of the rounding of the output.
        residual: of M = O sym(O^T M) for the polar factor, of O^T M = M^T O for a clipping, on columns.
    """

    open: Tensor
    condition: Tensor
    rank: Tensor
    same: Tensor
    error: Tensor
    skew: Tensor
    rounding: Tensor
    residual: Tensor


@dataclass(frozen=True, slots=True)
class PolarFindings:
    """Findings of each matrix, (batch,) float64 each, NaN for what was not reached.

    Attributes:
        definite: whether M is proved to have full rank.
        smallest: the smallest singular value relative to ||M^T M||_F^(1/2).
        largest: the largest.
        spread: ||M||_F ||M^+||_F / n.
        residual: of M = O sym(O^T M), on columns.
        gap: from O^T O = I, on columns.
        steps: of the iteration.
    """

    definite: Tensor
    smallest: Tensor
    largest: Tensor
    spread: Tensor
    residual: Tensor
    gap: Tensor
    steps: Tensor


@dataclass(frozen=True)
class HalfPolarFindings:
    """Findings of each matrix of the iteration in bf16, (batch,) float64 each, NaN for what was not reached.

    Attributes:
        definite: whether M is proved to have full rank.
        smallest: the smallest singular value relative to ||(M^T M)^2||_F^(1/4).
        largest: the largest.
        turn: the skew part of the relative error of O, on columns, where no pair of singular vectors is turned more
            than others.
        outside: the part of O outside of the range of M, relative, on columns.
        residual: of M = O sym(O^T M), on columns.
        gap: from O^T O = I, on columns.
        steps: of the iteration.
    """

    definite: Tensor
    smallest: Tensor
    largest: Tensor
    turn: Tensor
    outside: Tensor
    residual: Tensor
    gap: Tensor
    steps: Tensor


@dataclass(frozen=True, slots=True)
class ImageFindings:
    """Findings of each image, (batch,) float64 each.

    Attributes:
        rounding: relative error of its rounding to float32.
        residual: of M = O sym(O^T M), on columns.
        skew: of O^T M = M^T O, on columns.
    """

    rounding: Tensor
    residual: Tensor
    skew: Tensor


@dataclass(frozen=True, slots=True)
class TriangleFindings:
    """Findings of each triangle, (batch,) float64 each; norms are lower bounds by power iteration.

    Attributes:
        residual: of T X = I, on columns.
        error: of X to first order, on columns.
        norm: of T.
        inverse_norm: of X.
    """

    residual: Tensor
    error: Tensor
    norm: Tensor
    inverse_norm: Tensor


@dataclass(frozen=True, slots=True)
class SolveFindings:
    """Findings of each triangular system T X = B, (batch,) float64 each.

    Attributes:
        missing: ||B - T X||_F.
        target: ||B||_F.
        step: ||T^-1 (B - T X)||_F, the error of X to first order.
        rounded: the same of rounding errors that the residual may have.
        size: ||X||_F.
        left: what the residual is after the correction by that step.
        norm: a lower bound of ||T||_2.
        inverse_norm: a lower bound of ||T^-1||_2.
    """

    missing: Tensor
    target: Tensor
    step: Tensor
    rounded: Tensor
    size: Tensor
    left: Tensor
    norm: Tensor
    inverse_norm: Tensor


@dataclass(frozen=True, slots=True)
class UpperFindings:
    """Findings of each function of an upper triangle T, (batch,) float64 each, NaN for what was not reached.

    Attributes:
        open: 1 where there is no answer: another method has to look at the matrix.
        condition: relative condition number of the function at T, from below.
        error: relative error of the value, T being exact.
        steps: square roots.
        inverse_norm: ||T^-1||_F.
    """

    open: Tensor
    condition: Tensor
    error: Tensor
    steps: Tensor
    inverse_norm: Tensor


_KINDS: Final[dict[Any, str]] = {ctypes.c_int64: "q", ctypes.c_double: "d", ctypes.c_void_p: "P"}
_CALLS: Final[dict[str, type[ctypes.Structure]]] = {
    "products": _ProductsPlan,
    "substitutions": _SubstitutionsPlan,
    "cholesky": _CholeskyPlan,
    "eigh": _EighPlan,
    "real_schur": _RealSchurPlan,
    "schur": _SchurPlan,
    "svd": _SvdPlan,
    "inverses": _InversesPlan,
    "riccati": _RiccatiPlan,
}
_PLANS: Final[dict[str, type[ctypes.Structure]]] = {
    "roots_plan": PowersPlan,
    "triangles_plan": TrianglesPlan,
    "solves_plan": SolvesPlan,
    "low_rank_plan": LowRankPlan,
    "tall_plan": TallPlan,
    "lockstep_plan": LockstepPlan,
    "rows_plan": RowsPlan,
    "spectral_plan": SpectralPlan,
    "clip_plan": ClipPlan,
    "exponentials_plan": ExponentialsPlan,
    "sylvester_plan": SylvesterPlan,
    "gram_polar_plan": GramPolarPlan,
    "upper_plan": UpperPlan,
    "polar_plan": PolarPlan,
    "residuals_plan": ResidualsPlan,
    "ball_step": BallStep,
    "ball_slot": BallSlot,
    "balls_plan": BallsPlan,
    **{f"{name}_plan": plan for name, plan in _CALLS.items()},
}
_FINDINGS: Final[dict[str, type[Any]]] = {
    "SPECTRAL_FINDINGS": SpectralFindings,
    "CLIP_FINDINGS": ClipFindings,
    "EXPONENTIAL_FINDINGS": ExponentialFindings,
    "SYLVESTER_FINDINGS": SylvesterFindings,
    "GRAM_POLAR_FINDINGS": GramPolarFindings,
    "UPPER_FINDINGS": UpperFindings,
    "ROOT_FINDINGS": PowerFindings,
    "TRIANGLE_FINDINGS": TriangleFindings,
    "SOLVE_FINDINGS": SolveFindings,
    "RICCATI_FINDINGS": RiccatiFindings,
    "IMAGE_FINDINGS": ImageFindings,
    "POLAR_FINDINGS": PolarFindings,
    "HALF_POLAR_FINDINGS": HalfPolarFindings,
}


class Term(ctypes.Structure):
    """`term` of contract.c: a name, its kind and its value."""

    _fields_ = (("name", ctypes.c_char_p), ("kind", ctypes.c_char), ("value", ctypes.c_int64))


def contract() -> dict[str, tuple[str, int]]:
    """Kind and value of all that the library must agree on: numbers, fields of structures and places of findings."""
    numbers = {
        "PROBES": PROBES,
        "MAX_STEPS": MAX_STEPS,
        "RANDOM_FIELDS": RANDOM_FIELDS,
        "OUT_OF_MEMORY": OUT_OF_MEMORY,
        "BALL_FACTS": BALL_FACTS,
        **{name: int(number) for kind in (Step, View, Half) for name, number in kind.__members__.items()},
        "IN_LANES": IN_LANES,
        **{rule.name: rule.value for rule in Rule},
    }
    terms = {name: ("n", number) for name, number in numbers.items()}
    for name, plan in _PLANS.items():
        terms[name] = ("n", ctypes.sizeof(plan))
        terms |= {f"{name}.{field}": (kind, offset) for field, kind, offset in _fields(plan)}
    for name, findings in _FINDINGS.items():
        terms[name] = ("n", len(fields(findings)))
        terms |= {f"{name}.{field.name}": ("n", place) for place, field in enumerate(fields(findings))}
    return terms


def _fields(plan: type[ctypes.Structure]) -> Iterator[tuple[str, str, int]]:
    """Name, kind and offset of each field, those of a structure within it one by one."""
    for name, kind, *_ in plan._fields_:
        offset: int = getattr(plan, name).offset
        if kind in _KINDS:
            yield name, _KINDS[kind], offset
        elif issubclass(kind, ctypes.Structure):
            yield from ((f"{name}.{inner}", code, offset + more) for inner, code, more in _fields(kind))


CALLS: Final = {name: Struct("".join(kind for _, kind, _ in _fields(plan))) for name, plan in _CALLS.items()}
"""Packers of the plans for calls of BLAS and LAPACK, by function."""
