"""The operator X -> A X + X B through the Schur forms of A and B, its inverse and its separation.

With A = U T U^H and B = V R V^H the equation A X + X B = Q becomes T Y + Y R = U^H Q V, which is solved by substitution
(Bartels and Stewart, Comm. ACM 15 (1972)), or by division where both are diagonal, as for Hermitian A and B. Once the
two forms are there a solution costs a few products, so that the separation sep(A, -B) = min ||A X + X B|| / ||X|| comes
almost free, by power steps on the inverse and its adjoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import eigh, lapack, schur

from matfn_kernels.numbers.arrays import EPS, Array, adjoint, demand_form, demand_small, gaussian, growth, norm

__all__ = ["SylvesterOperator"]


_TINY: Final = float(np.finfo(np.float64).tiny)
_COLUMNS: Final = 4
"""Random columns on which a solution is checked."""
_BASE_CASE: Final = 48
"""Largest order that is left to LAPACK's unblocked substitution.

A solution of order 256 takes 27 ms of an Intel Xeon's core with 32 to 64, and 48 with 8 for all the calls."""


@dataclass(frozen=True, slots=True, eq=False)
class SylvesterOperator:
    """X -> A X + X B, with A = U T U^H and B = V R V^H, or B = V R^H V^H if `turned`; all real or all complex."""

    u: Array
    t: Array
    v: Array
    r: Array
    turned: bool

    @classmethod
    def of(cls, a: Array, b: Array) -> SylvesterOperator:
        """The operator of two square matrices.

        Raises:
            numpy.linalg.LinAlgError: if LAPACK gives up or returns no Schur form.
            ValueError: if an entry is not finite.
        """
        t, u = _form(a)
        r, v = _form(b)
        return cls(u, t, v, r, turned=False)

    @classmethod
    def twice(cls, a: Array) -> SylvesterOperator:
        """X -> A X + X A, from one Schur form."""
        t, u = _form(a)
        return cls(u, t, u, t, turned=False)

    @classmethod
    def lyapunov(cls, a: Array) -> SylvesterOperator:
        """X -> A X + X A^H, from one Schur form."""
        t, u = _form(a)
        return cls(u, t, u, t, turned=True)

    @property
    def spectra(self) -> tuple[Array, Array]:
        """Eigenvalues of A and of B."""
        return _eigenvalues(self.t), _eigenvalues(self.r)

    @property
    def is_stable(self) -> bool:
        """Whether every eigenvalue of A lies to the left of the imaginary axis, beyond rounding."""
        return bool(self.spectra[0].real.max() < -len(self.t) * EPS * norm(self.t))

    def solve(self, q: Array) -> Array:
        """X with A X + X B = Q; a pivot below eps is lifted to it, as LAPACK does.

        Raises:
            numpy.linalg.LinAlgError: if LAPACK returns no solution.
        """
        return self._turned_back(self._forward(adjoint(self.u) @ q @ self.v))

    def solve_adjoint(self, q: Array) -> Array:
        """X with A^H X + X B^H = Q."""
        return self._turned_back(self._backward(adjoint(self.u) @ q @ self.v))

    def inverse_norm(self) -> float:
        """1 / sep(A, -B), from below, mostly within a factor 1.5."""
        return growth(self._forward, self._backward, (len(self.t), len(self.r)))

    def _forward(self, f: Array) -> Array:
        y = _substitute((self.t, self.r), f, turn_a=False, turn_b=self.turned)
        return _checked(y, f, self.t, adjoint(self.r) if self.turned else self.r)

    def _backward(self, f: Array) -> Array:
        y = _substitute((self.t, self.r), f, turn_a=True, turn_b=not self.turned)
        return _checked(y, f, adjoint(self.t), self.r if self.turned else adjoint(self.r))

    def _turned_back(self, y: Array) -> Array:
        x: Array = self.u @ y @ adjoint(self.v)
        return x


def _substitute(forms: tuple[Array, Array], f: Array, *, turn_a: bool, turn_b: bool) -> Array:
    """Y with T Y + Y R = F, T or R their adjoints if turned, by halves down to blocks that LAPACK solves."""
    t, r = forms
    if _is_diagonal(t) and _is_diagonal(r):
        left, right = (x.diagonal().conj() if turn else x.diagonal() for x, turn in ((t, turn_a), (r, turn_b)))
        return f / _pivots(left, right)
    if max(f.shape) <= _BASE_CASE:
        solve = lapack.ztrsyl if np.iscomplexobj(t) else lapack.dtrsyl
        y, scale, _ = solve(t, r, f, trana=b"C" if turn_a else b"N", tranb=b"C" if turn_b else b"N")
        return np.asarray(y / scale)
    if len(t) < len(r):
        # The adjoint equation is of the same kind: R^H Y^H + Y^H T^H = F^H.
        return adjoint(_substitute((r, t), adjoint(f), turn_a=not turn_b, turn_b=not turn_a))
    half = _cut(t)
    upper, corner, lower = t[:half, :half], t[:half, half:], t[half:, half:]
    if turn_a:
        first = _substitute((upper, r), f[:half], turn_a=turn_a, turn_b=turn_b)
        last = _substitute((lower, r), f[half:] - adjoint(corner) @ first, turn_a=turn_a, turn_b=turn_b)
    else:
        last = _substitute((lower, r), f[half:], turn_a=turn_a, turn_b=turn_b)
        first = _substitute((upper, r), f[:half] - corner @ last, turn_a=turn_a, turn_b=turn_b)
    return np.concatenate([first, last])


def _checked(y: Array, f: Array, t: Array, r: Array) -> Array:
    """Y where it solves T Y + Y R = F on random columns, or where it is not finite and so no answer."""
    z = gaussian((len(r), _COLUMNS))
    missing = t @ (y @ z) + y @ (r @ z) - f @ z
    if np.isfinite(missing).all():
        demand_small(missing, norm(z) * ((norm(t) + norm(r)) * norm(y) + norm(f)), len(t) + len(r))
    return y


def _form(a: Array) -> tuple[Array, Array]:
    """T and U of the real or complex Schur form A = U T U^H, diagonal where A is Hermitian."""
    if np.array_equal(a, adjoint(a)):
        values, u = eigh(a)
        t = np.diag(values).astype(a.dtype)
    else:
        t, u = schur(a)
    demand_form(a, t, u)
    return t, u


def _is_diagonal(t: Array) -> bool:
    return bool(np.count_nonzero(t) == np.count_nonzero(t.diagonal()))


def _pivots(left: Array, right: Array) -> Array:
    """Sums of eigenvalues, lifted to eps where they are below it."""
    sums = left[:, None] + right[None, :]
    least = max(EPS * max(np.abs(left).max(), np.abs(right).max()), _TINY)
    return np.where(np.abs(sums) < least, least, sums)


def _cut(t: Array) -> int:
    """An index near the middle that splits no 2 x 2 block."""
    half = len(t) // 2
    return half + 1 if t[half, half - 1] else half


def _eigenvalues(t: Array) -> Array:
    """Eigenvalues of a Schur form; a real one is standardised: equal diagonal entries in each 2 x 2 block."""
    if np.iscomplexobj(t):
        return t.diagonal()
    diagonal = t.diagonal().astype(complex)
    outer = np.append(t.diagonal(-1) * t.diagonal(1), 0.0)
    for i in np.flatnonzero(t.diagonal(-1)):
        root = np.sqrt(max(0.0, -outer[i]))
        diagonal[i] += 1j * root
        diagonal[i + 1] -= 1j * root
    return diagonal
