"""What the demo sends: real matrices, the functions to apply to them, and their definitions in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from matfn_kernels import reference

__all__ = ["DEFAULT", "TIGHT", "Array", "Case", "cases", "known", "matrices"]

Array: TypeAlias = NDArray[Any]
Truth: TypeAlias = Callable[[Array], tuple[Array, ...]]

TIGHT = 1e-5
DEFAULT = 1e-3
HALF = 1e-2


@dataclass(frozen=True, slots=True)
class Case:
    """One call and what its answer must be.

    Attributes:
        title: the name printed.
        function: the client's method.
        inputs: arrays in the method's order.
        keywords: parameters and options.
        bound: relative error in the Frobenius norm that every answer must stay below.
        truth: from the shifts that the certificates state to the exact outputs.
    """

    title: str
    function: str
    inputs: tuple[Array, ...]
    truth: Truth
    bound: float = DEFAULT
    keywords: dict[str, Any] = field(default_factory=dict)


def matrices() -> dict[str, Array]:
    """The matrices that ship with the project, by name."""
    return dict(np.load(Path(__file__).parent / "matrices.npz", allow_pickle=False))


def cases() -> list[Case]:
    """Roots, polar factors and triangular problems on every kind of matrix that ships with the project."""
    data = matrices()
    return [*_shampoo(data), *_covariances(data), *_momenta(data), *_deltanet(data)]


def _power(a: Array, exponent: float) -> Truth:
    return lambda shift: (reference.power(a, exponent, shift[0]),)


def _shampoo(data: dict[str, Array]) -> list[Case]:
    found = []
    for key in ("shampoo_l_step1", "shampoo_l_step20", "shampoo_r_step20"):
        a = data[key]
        found += [
            Case(f"{key} tol=1e-5", "inv_root", (a,), _power(a, -1 / 4), TIGHT, {"r": 4, "tol": TIGHT}),
            Case(key, "inv_root", (a,), _power(a, -1 / 4), DEFAULT, {"r": 4}),
            Case(key, "root", (a,), _power(a, 1 / 2), DEFAULT, {"r": 2}),
            Case(key, "sqrt_pair", (a,), _pair(a), DEFAULT),
        ]
    blocks = np.stack([data["shampoo_l_step20"][i : i + 64, i : i + 64] for i in range(0, 256, 64)])
    found.append(
        Case(
            "shampoo blocks of 64",
            "inv_root",
            (blocks,),
            lambda shift: (reference.power(blocks, -1 / 2, shift),),
            DEFAULT,
            {"r": 2},
        )
    )
    return found


def _pair(a: Array) -> Truth:
    return lambda shift: (reference.power(a, 0.5, shift[0]), reference.power(a, -0.5, shift[0]))


def known(*exact: Array) -> Truth:
    """A truth that no shift changes."""
    return lambda _: exact


def _covariances(data: dict[str, Array]) -> list[Case]:
    digits, fid = data["digits_covariance"], data["fid_cov_a"]
    vectors = np.random.default_rng(0).standard_normal((8, 64))
    return [
        Case("digits (singular)", "root", (digits,), _power(digits, 1 / 2), TIGHT, {"r": 2}),
        Case("digits damping=1e-3", "inv_root", (digits,), _power(digits, -1 / 2), 1e-9, {"r": 2, "damping": 1e-3}),
        Case(
            "digits whitening",
            "inv_root",
            (digits,),
            lambda shift: (vectors @ reference.power(digits, -1 / 2, shift[0]),),
            1e-9,
            {"r": 2, "damping": 1e-3, "g": vectors},
        ),
        Case("fid covariance (rank 95)", "root", (fid,), _power(fid, 1 / 2), TIGHT, {"r": 2}),
    ]


def _momenta(data: dict[str, Array]) -> list[Case]:
    found = []
    for key in ("momentum_q_step20", "momentum_up_step300"):
        m = data[key].astype(np.float32)
        threshold, middle = 8 * float(np.finfo(np.float32).eps), float(np.linalg.norm(m.astype(np.float64), 2) / 2)
        factor, wide = reference.msign(m, threshold), m.astype(np.float64)
        clipped = reference.mclip(m, middle, middle / 100, threshold)
        found += [
            Case(f"{key} tol=1e-5", "msign", (m,), known(factor), TIGHT, {"tol": TIGHT}),
            Case(key, "polar", (m,), known(factor, reference.power(wide.T @ wide, 0.5)), DEFAULT),
            Case(key, "mclip", (m,), known(clipped), DEFAULT, {"hi": middle, "lo": middle / 100}),
        ]
    half = data["momentum_up_step300"]
    exact = reference.msign(half, 8 * float(np.finfo(np.float16).eps))
    found.append(Case("momentum_up_step300", "msign", (half,), known(exact), HALF))
    return found


def _deltanet(data: dict[str, Array]) -> list[Case]:
    keys, beta = data["deltanet_keys"], data["deltanet_beta"]
    diag, q = np.ones_like(beta), beta[..., None] * keys
    t = reference.dplr_matrix(diag, q, keys)
    b = np.random.default_rng(1).standard_normal((4, 64, 32)).astype(np.float32)
    dense = t.astype(np.float32)
    inverse = np.linalg.inv(t)
    return [
        Case("deltanet chunks", "dplr_solve", (diag, q, keys, b), known(inverse @ b), TIGHT, {"tol": TIGHT}),
        Case("deltanet chunks", "dplr_inv", (diag, q, keys), known(inverse), TIGHT),
        Case("deltanet chunks", "tri_inv", (dense,), known(np.linalg.inv(dense.astype(np.float64))), TIGHT),
        Case(
            "deltanet chunks",
            "tri_solve",
            (dense, b),
            known(np.linalg.solve(dense.astype(np.float64).swapaxes(1, 2), b.astype(np.float64))),
            TIGHT,
            {"transpose": True},
        ),
    ]
