"""Riccati equations without descriptor and cross term by doubling, for all matrices of a batch, in C.

Each equation is scaled by powers of two; in continuous time the Cayley transform of its Hamiltonian matrix has the form
from which doubling starts (`continuous`). With K = W^-1 H and the closed loop A_c = A - B K the residual is
A_c^H X + X A_c + K^H R K + Q, or A_c^H X A_c - X + K^H R K + Q, in which an error of K counts by its square. Sums over
powers of the closed loop, or of its Cayley transform, give one Newton step, show that the loop is stable, and bound the
norm of the inverse of the derivative. With a bound c of the curvature, the error of X is at most
2 s / (1 + sqrt(1 - 4 c s)) for a next step s (Kantorovich), and that of K follows (`gains`). What cannot be shown to
have all this is left to `riccati`.
References: Chu, Fan and Lin, Linear Algebra Appl. 396 (2005); Chu, Fan, Lin and Wang, Int. J. Control 77 (2004).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

import torch

from matfn_kernels.linalg.backward_error import orthogonality
from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.native.riccati import Limits, solutions
from matfn_kernels.methods.equations.riccati import RESIDUALS, RiccatiProgram, asymmetric_weights
from matfn_kernels.numbers.arrays import EPS
from matfn_kernels.numbers.precision import Precision, working
from matfn_kernels.programs.findings import Findings, replaced
from matfn_kernels.programs.tolerances import default_tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.native.structures import RiccatiFindings
    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["DoublingProgram"]

_LIMITS: Final = Limits(steps=40, settled=1e-8, exact=1e-9, vanished=2.0**-14, diverged=1e100)
"""A closed loop that takes more doublings is within 1e-9 of an unstable one. The square of a relative change that has
settled is rounding; so is the fourth power of one that has vanished, in which the next sum differs. Products of powers
below the last number do not overflow."""
_TRUSTED: Final = 1e-6
"""Condition times eps up to which rounding changes the bounds by a small part of them."""
_UNSOLVED: Final = 0.05
"""Largest relative residual of the equations that bound the inverse; the bound grows by as much."""
_BENT: Final = 0.05
"""Largest relative change of the derivative, or of W, by a step: bounds to first order leave out few times that."""
_MARGIN: Final = 1.25
"""Of a bound over that to first order, for `_BENT` and rounding."""
_EXTENDED: Final = 2.0**-20
"""Rounding of a product in two parts, relative to that of an ordinary one (`extended_product`)."""
_ROUNDING: Final = 4.0
"""Units of eps beside: X is stored with half of one."""
_PRODUCTS: Final = 150.0
_SMALL: Final = 16
_CALLS: Final = 5e-6
"""A price, on which no answer rests: products in eight steps of both doublings, inverses among them, whose time falls
with the order below the smallest that is profiled, and seconds that some 200 calls of BLAS and LAPACK take beside."""
_ANOTHER: Final = 1
"""The fallback that computes what is left, in `Findings.escalated`."""


@dataclass(frozen=True, slots=True)
class DoublingProgram:
    """Riccati equations without descriptor and cross term: the values that all items in a batch share.

    Attributes:
        general: the program for every equation.
        method: doubling.
        precision: fp64.
        ceiling: fp64.
    """

    general: RiccatiProgram
    method: Literal["doubling"] = "doubling"
    precision: Precision = Precision.FP64
    ceiling: Precision = Precision.FP64

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""
        return self.general.dtype

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: a and q (batch, n, n), b (batch, n, m), r (batch, m, m)."""
        if not lapack.is_ready():
            return _others(self.general.run(inputs))
        found = self._doubled(inputs)
        eps = torch.finfo(self.dtype).eps
        left = ~(found.error <= default_tolerance(eps, 1.0, found.condition, eps))
        if not bool(left.any()):
            return found
        return replaced(found, left, _others(self.general.run({name: x[left] for name, x in inputs.items()})))

    def _doubled(self, inputs: Mapping[str, Tensor]) -> Findings:
        """The findings of doubling, with an infinite error where they are none."""
        double = working(self.precision, self.dtype)
        a, b, q, r = (inputs[name].to(double) for name in "abqr")
        discrete, gain = self.general.function == "solve_dare", self.general.gain
        rounded = torch.finfo(self.dtype).bits < torch.finfo(double).bits
        x, k, found = solutions((a, b, q, r), _LIMITS, discrete=discrete, rounded=rounded, gain=gain)
        units = tuple(_product_error(terms, is_complex=a.dtype.is_complex) for terms in b.shape[-2:])
        judged = _Judged(found, units, discrete)
        error, condition = judged.error, judged.condition
        if gain:
            error, condition = torch.maximum(error, judged.gain_error), torch.maximum(condition, judged.gain_condition)
        known = (found.found != 0) & judged.is_trusted & (condition * EPS <= _TRUSTED)
        return Findings(
            outputs=(x,) if k is None else (x, k),
            exponents=(found.exponent.to(torch.int64), *(() if k is None else (None,))),
            residual_name=RESIDUALS[self.general.function],
            residual=judged.residual,
            error=torch.where(known, error, torch.inf),
            condition=torch.where(known, condition, torch.inf),
            steps=found.steps,
            remarks={"asymmetric_weights": asymmetric_weights(inputs)},
        )

    def fallbacks(self) -> tuple[Program, ...]:
        """The method for every equation."""
        return (self.general,)

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return self.general.empty(inputs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix."""
        order = self.general.order
        return _CALLS + _PRODUCTS * min(1.0, order / _SMALL) * profile.cost("gemm", Precision.FP64, order)


def _others(findings: Findings) -> Findings:
    """The findings of the method for every equation, as those of a fallback."""
    none = torch.zeros(len(findings.error), dtype=torch.int64)
    exponents = findings.exponents or (none, *(None for _ in findings.outputs[1:]))
    return replace(findings, exponents=exponents, escalated=torch.full_like(findings.error, _ANOTHER))


def _product_error(terms: int, *, is_complex: bool) -> float:
    """Error of a product of sums of so many terms, relative to the factors' norms."""
    certain = 0.75 * (terms + 4) if is_complex else 0.5 * (terms + 2)
    return min(certain, orthogonality(terms)) * EPS


@dataclass(frozen=True)
class _Judged:
    """Verdicts of the norms on X and K, (batch,) each.

    Attributes:
        found: the norms.
        units: relative errors of products, of n terms and of m.
        discrete: whether the equation is in discrete time.
    """

    found: RiccatiFindings
    units: tuple[float, ...]
    discrete: bool

    @cached_property
    def _size(self) -> Tensor:
        return torch.where(self.found.x > 0, self.found.x, 1.0)

    @cached_property
    def residual(self) -> Tensor:
        """Relative residual."""
        return self.found.missing / torch.where(self.found.terms > 0, self.found.terms, 1.0)

    @cached_property
    def _reach(self) -> Tensor:
        """Bound of the norm of the inverse of the derivative."""
        return self.found.reach / (1 - self.found.unsolved).clamp_min(1 - _UNSOLVED)

    @cached_property
    def is_trusted(self) -> Tensor:
        """Whether the bounds hold, and a solution is certain to be near."""
        f = self.found
        return self._is_gentle(2 * f.push * self._step) & (f.unsolved <= _UNSOLVED) & (self._near > 0)

    def _is_gentle(self, bend: Tensor) -> Tensor:
        """Whether a change of X by which B W^-1 B^H is multiplied leaves W nearly as it was."""
        return bend <= _BENT if self.discrete else torch.ones_like(bend, dtype=torch.bool)

    @cached_property
    def _curvature(self) -> Tensor:
        """Bound of the next Newton step over the square of an error."""
        f = self.found
        return _MARGIN * self._reach * f.push * (f.loop.square() if self.discrete else 1.0)

    @cached_property
    def _rounding(self) -> Tensor:
        """Of the residual, whose products are in extended precision; an error of K counts by its square."""
        f, (long, short) = self.found, self.units
        of_loop, cost = short * (f.a + f.b * f.gain), 2 * short * f.gain.square() * f.r
        twice = f.loop if self.discrete else 1.0
        image = 2 * f.x * (long * f.loop + of_loop) * twice
        return _EXTENDED * (image + cost + EPS * f.terms) + f.inverse * self._missed.square()

    @cached_property
    def _missed(self) -> Tensor:
        """||W K - H|| in double precision, the rounding of both included."""
        f, (long, short) = self.found, self.units
        rounded = short * f.weight * f.gain
        if self.discrete:
            rounded = rounded + 2 * long * f.projected * (f.b * f.gain + f.a) + long * f.b * f.x * f.loop
        else:
            rounded = rounded + long * f.b * f.x
        return f.missed + rounded

    @cached_property
    def _step(self) -> Tensor:
        """Bound of the last Newton step, if it had been exact."""
        return self._reach * (self.found.before + self._rounding)

    @cached_property
    def _near(self) -> Tensor:
        return 1 - 4 * self._curvature * self._step

    @cached_property
    def _distance(self) -> Tensor:
        """Bound of the distance of X from the solution, before X is rounded: what Newton's step has left."""
        f, long = self.found, self.units[0]
        curved = self._curvature * (2 * self._step / (1 + self._near.clamp_min(0).sqrt())).square()
        image = (2 * f.loop.square() + 1) if self.discrete else 2 * f.loop
        return curved + _MARGIN * self._reach * (f.left + self._rounding + 2 * long * image * f.step)

    @cached_property
    def error(self) -> Tensor:
        """Relative error of X."""
        return self._distance / self._size + _ROUNDING * EPS

    @cached_property
    def _sizes(self) -> Tensor:
        """Change of the equation by a relative change of its matrices: by norms of its parts, or by the spread of W."""
        f = self.found
        parts = 2 * f.gain * f.x * f.b * (f.a if self.discrete else 1.0)
        parts = parts + f.gain.square() * (f.r + (f.b.square() * f.x if self.discrete else 0.0))
        linear = (f.a.square() + 1) * f.x if self.discrete else 2 * f.a * f.x
        return linear + f.q + torch.minimum(parts, f.weight * f.inverse * f.cost)

    @cached_property
    def condition(self) -> Tensor:
        """Condition of X."""
        return (self._reach * self._sizes / self._size).clamp_min(1.0)

    @cached_property
    def _gain_size(self) -> Tensor:
        return torch.where(self.found.own_gain > 0, self.found.own_gain, 1.0)

    @cached_property
    def gain_error(self) -> Tensor:
        """Relative error of K, from that of X and from the rounding of H and W to double precision."""
        f, (long, short) = self.found, self.units
        away = self._distance + EPS * f.x
        moved = _MARGIN * away * f.pressed * (f.loop if self.discrete else 1.0)
        moved = torch.where(self._is_gentle(away * f.push), moved, torch.inf)
        sums = long * f.b * f.x * ((f.a + f.b * f.gain) if self.discrete else 1.0)
        rounded = EPS * self._direct + f.inverse * _EXTENDED * 2 * (sums + short * f.weight * f.gain)
        twice = (short * f.inverse * f.weight).square() * f.gain
        return (moved + rounded + twice) / self._gain_size + _ROUNDING * EPS

    @cached_property
    def _direct(self) -> Tensor:
        """Change of K by a relative change of W and H."""
        return self.found.inverse * (self.found.held + self.found.weight * self.found.gain)

    @cached_property
    def gain_condition(self) -> Tensor:
        """Condition of K."""
        f = self.found
        carried = f.pressed * self._reach * self._sizes * (f.loop if self.discrete else 1.0)
        return ((carried + self._direct) / self._gain_size).clamp_min(1.0)
