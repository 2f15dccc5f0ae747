"""Calls of every function whose inputs are drawn for a condition, for bench_accuracy.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from long_double import adjoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["CASES", "ITEMS", "ORDER", "Case", "Draw"]

Array: TypeAlias = "NDArray[Any]"

ITEMS: Final = 16
ORDER: Final = 32
WIDTH: Final = 16
"""Of keys, values and low-rank factors."""
COLUMNS: Final = 3 * ORDER // 4
INPUTS: Final = ORDER // 4
SKEW: Final = 0.3
"""Norm of the part by which eigenvectors of general matrices miss being orthonormal, relative to that of a column."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Random arrays (ITEMS, ...), real or complex, of which the spectra go from 1 to 1 / condition in equal ratios."""

    condition: float
    is_complex: bool
    rng: np.random.Generator

    def normal(self, *shape: int) -> Array:
        """Normal numbers."""
        real = self.rng.standard_normal((ITEMS, *shape))
        return real + 1j * self.rng.standard_normal((ITEMS, *shape)) if self.is_complex else real

    def basis(self, rows: int, columns: int) -> Array:
        """Orthonormal columns."""
        return np.linalg.qr(self.normal(rows, columns))[0]

    def spectrum(self, count: int) -> Array:
        """The values, falling."""
        return np.logspace(0, -np.log10(self.condition), count)

    def signs(self, count: int) -> Array:
        """-1 and 1."""
        return self.rng.choice([-1, 1], count)


Maker: TypeAlias = "Callable[[Draw], Array]"


def hermitian(draw: Draw, values: Array) -> Array:
    """Hermitian matrices with these eigenvalues."""
    q = draw.basis(ORDER, ORDER)
    return (q * values) @ adjoint(q)


def positive(draw: Draw) -> Array:
    """Symmetric positive definite matrices."""
    return hermitian(draw, draw.spectrum(ORDER))


def indefinite(draw: Draw) -> Array:
    """Symmetric matrices with eigenvalues of both signs."""
    return hermitian(draw, draw.spectrum(ORDER) * draw.signs(ORDER))


def general(draw: Draw, values: Array) -> Array:
    """Matrices with these eigenvalues, their eigenvectors not orthogonal."""
    skew = np.eye(ORDER) + SKEW * np.triu(draw.normal(ORDER, ORDER), 1) / ORDER**0.5
    q = draw.basis(ORDER, ORDER) @ skew
    return (q * values) @ np.linalg.inv(q)


def signed(draw: Draw) -> Array:
    """General matrices with eigenvalues on both sides of the imaginary axis."""
    return general(draw, draw.spectrum(ORDER) * draw.signs(ORDER))


def contracting(draw: Draw) -> Array:
    """General matrices with 1 - l^2 the spectrum, for eigenvalues l."""
    return general(draw, np.sqrt(1 - draw.spectrum(ORDER)) * draw.signs(ORDER))


def tall(draw: Draw) -> Array:
    """Matrices of three quarters as many columns as rows."""
    return (draw.basis(ORDER, COLUMNS) * draw.spectrum(COLUMNS)) @ adjoint(draw.basis(COLUMNS, COLUMNS))


def lower(draw: Draw) -> Array:
    """Lower triangles with these singular values."""
    square = (draw.basis(ORDER, ORDER) * draw.spectrum(ORDER)) @ adjoint(draw.basis(ORDER, ORDER))
    return np.linalg.qr(square)[1].mT


def free(draw: Draw) -> Array:
    """Matrices of normal numbers."""
    return draw.normal(ORDER, ORDER)


def narrow(draw: Draw) -> Array:
    """Matrices of normal numbers, a quarter as many columns as rows."""
    return draw.normal(ORDER, INPUTS)


def weight(draw: Draw) -> Array:
    """The identity, as the weight of inputs."""
    del draw
    return np.broadcast_to(np.eye(INPUTS), (ITEMS, INPUTS, INPUTS))


def cost(draw: Draw) -> Array:
    """The identity, as the weight of states."""
    del draw
    return np.broadcast_to(np.eye(ORDER), (ITEMS, ORDER, ORDER))


def orthonormal(draw: Draw) -> Array:
    """Square bases."""
    return draw.basis(ORDER, ORDER)


def diagonal(draw: Draw) -> Array:
    """Diagonals of the spectrum."""
    return np.broadcast_to(draw.spectrum(ORDER) * draw.signs(ORDER), (ITEMS, ORDER))


def small(draw: Draw) -> Array:
    """Low-rank factors whose products have entries of about the last diagonal entry, so that it sets the condition."""
    return draw.normal(ORDER, WIDTH) / WIDTH**0.5 / draw.condition**0.5


def mean(draw: Draw) -> Array:
    """Means."""
    return draw.normal(ORDER)


def queries(draw: Draw) -> Array:
    """Normal numbers in 4 heads."""
    return draw.normal(4, ORDER, WIDTH)


def logits(draw: Draw) -> Array:
    """Largest logits, below and above 100."""
    return 10 ** draw.rng.uniform(1, 3, (ITEMS, 4))


def steps(draw: Draw) -> Array:
    """Sequences of normal numbers."""
    return draw.normal(ORDER, WIDTH)


def keys(draw: Draw) -> Array:
    """Sequences of unit vectors."""
    k = draw.normal(ORDER, WIDTH)
    return k / np.linalg.norm(k, axis=-1, keepdims=True)


def strengths(draw: Draw) -> Array:
    """Numbers between 0 and 1."""
    return draw.rng.random((ITEMS, ORDER))


def gates(draw: Draw) -> Array:
    """Logarithms of gates."""
    return -draw.rng.random((ITEMS, ORDER)) / 10


@dataclass(frozen=True, slots=True)
class Case:
    """A call whose inputs are drawn for a condition.

    Attributes:
        function: to be called.
        makers: of its inputs by name.
        parameters: by name.
        has_condition: whether the condition makes a difference.
    """

    function: str
    makers: dict[str, Maker]
    parameters: dict[str, Any] = field(default_factory=dict)
    has_condition: bool = True

    @property
    def words(self) -> str:
        """The parameters as they are written."""
        return ", ".join(f"{name}={value}" for name, value in self.parameters.items())


_SEQUENCE: Final = {"q": steps, "k": keys, "v": steps, "beta": strengths, "log_gate": gates}

CASES: Final = (
    Case("root", {"a": positive}, {"r": 2}),
    Case("root", {"a": positive}, {"r": 4}),
    Case("inv_root", {"a": positive}, {"r": 2}),
    Case("inv_root", {"a": positive}, {"r": 4}),
    Case("sqrt_pair", {"a": positive}),
    Case("log", {"a": positive}),
    Case("exp", {"a": indefinite}),
    Case("power", {"a": positive}, {"p": 0.3}),
    Case("power", {"a": positive}, {"p": -0.3}),
    Case("msign", {"m": tall}),
    Case("mclip", {"m": tall}, {"hi": 0.1}),
    Case("polar", {"m": tall}),
    Case("norm2", {"m": tall}),
    Case("cond", {"m": tall}),
    Case("mcsgn", {"a": signed}),
    Case("spectral_projector", {"a": signed}),
    Case("solve_sylvester", {"a": positive, "b": positive, "q": free}),
    Case("solve_lyapunov", {"a": positive, "q": free}),
    Case("solve_discrete_lyapunov", {"a": contracting, "q": free}),
    Case("solve_care", {"a": signed, "b": narrow, "q": cost, "r": weight}),
    Case("solve_dare", {"a": signed, "b": narrow, "q": cost, "r": weight}),
    Case("tri_inv", {"t": lower}),
    Case("tri_solve", {"t": lower, "b": free}),
    Case("dplr_inv", {"diag": diagonal, "q": small, "k": small}),
    Case("dplr_solve", {"diag": diagonal, "q": small, "k": small, "b": free}),
    Case("frechet_distance", {"mu1": mean, "s1": positive, "mu2": mean, "s2": positive}),
    Case("eig_clip", {"a": indefinite}, {"lo": 0.0}),
    Case("eigh", {"a": indefinite}),
    Case("eigenbasis", {"a": indefinite, "q": orthonormal}),
    Case("geometric_mean", {"a": positive, "b": positive}),
    Case("delta_rule", _SEQUENCE, has_condition=False),
    Case("max_logit", {"q": queries, "k": queries}, has_condition=False),
    Case("qk_clip", {"w_q": queries, "w_k": queries, "max_logit": logits}, has_condition=False),
)
"""Every function of the catalogue at least once, which tests/deployment/test_function_pages.py sees."""
