"""Claimed answers: cases of all functions that can be verified, and their certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from evaluating import parsed
from matfn_kernels import FUNCTIONS, batch_of, evaluate, load_profile, make_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matfn_kernels.contract.certificate import Certificate

    Array = NDArray[Any]

__all__ = ["INPUTS", "general", "named", "spd", "triangle", "verified"]


def spd(n: int, condition: float, seed: int = 0, dtype: type = np.float64) -> Array:
    """A positive definite matrix with logarithmically spaced eigenvalues."""
    rng = np.random.default_rng(seed)
    draw = rng.standard_normal((n, n))
    if dtype is np.complex128:
        draw = draw + 1j * rng.standard_normal((n, n))
    q = np.linalg.qr(draw)[0]
    a: Array = (q * np.geomspace(1 / condition, 1, n)) @ q.conj().T
    return ((a + a.conj().T) / 2).astype(dtype)


def triangle(n: int, seed: int = 0) -> Array:
    """A lower triangle that is far from singular."""
    rng = np.random.default_rng(seed)
    t: Array = np.tril(rng.standard_normal((n, n)), -1) / n + np.diag(rng.uniform(1, 2, n))
    return t


def general(m: int, n: int, seed: int = 0) -> Array:
    """A Gaussian matrix."""
    return np.random.default_rng(seed).standard_normal((m, n))


def named(function: str, claims: tuple[Array, ...], inputs: dict[str, Array]) -> dict[str, Array]:
    """The inputs of a verification."""
    return {**dict(zip(FUNCTIONS[function].outputs, claims, strict=True)), **inputs}


def verified(function: str, claims: tuple[Array, ...], inputs: dict[str, Array], **keywords: object) -> Certificate:
    """The certificate of a claimed answer."""
    call = parsed(f"verify/{function}", named(function, claims, inputs), keywords)
    plan = make_plan(call, load_profile())
    (certificate,) = evaluate(plan.program, batch_of(call), plan.backends).certificates
    return certificate


INPUTS: Final[dict[str, tuple[dict[str, Array], dict[str, object]]]] = {
    "root": ({"a": spd(12, 1e3)}, {"r": 3, "s": 2}),
    "inv_root": ({"a": spd(12, 1e3), "g": general(5, 12)}, {"r": 4}),
    "sqrt_pair": ({"a": spd(12, 1e3)}, {}),
    "log": ({"a": spd(12, 1e3)}, {}),
    "exp": ({"a": spd(12, 1e3) - 0.3 * np.eye(12)}, {"t": 2.0}),
    "power": ({"a": spd(12, 1e3), "g": general(5, 12)}, {"p": -0.7}),
    "msign": ({"m": general(9, 6)}, {}),
    "mclip": ({"m": general(6, 9)}, {"hi": 1.0, "lo": 0.5}),
    "polar": ({"m": general(9, 6)}, {}),
    "eig_clip": ({"a": spd(9, 1e3) - 0.3 * np.eye(9)}, {"lo": 0.0}),
    "eigh": ({"a": spd(9, 1e3) - 0.3 * np.eye(9)}, {}),
    "tri_inv": ({"t": triangle(9)}, {}),
    "tri_solve": ({"t": triangle(9), "b": general(9, 4)}, {"transpose": True}),
    "dplr_inv": ({"diag": np.full(9, 2.0), "q": general(9, 2) / 5, "k": general(9, 2, 1) / 5}, {}),
    "dplr_solve": (
        {"diag": np.full(9, 2.0), "q": general(9, 2) / 5, "k": general(9, 2, 1) / 5, "b": general(9, 3)},
        {},
    ),
    "solve_sylvester": ({"a": spd(6, 10), "b": spd(5, 10), "q": general(6, 5)}, {}),
    "solve_lyapunov": ({"a": spd(6, 10), "q": spd(6, 10, 1)}, {}),
    "solve_discrete_lyapunov": ({"a": spd(6, 10) / 2, "q": spd(6, 10, 1)}, {}),
    "solve_care": ({"a": general(5, 5), "b": general(5, 2), "q": np.eye(5), "r": np.eye(2)}, {}),
    "solve_dare": ({"a": general(5, 5), "b": general(5, 2), "q": np.eye(5), "r": np.eye(2)}, {}),
}
