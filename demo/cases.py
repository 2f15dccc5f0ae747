"""What the demo sends: real matrices, and the functions to apply to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from matfn_kernels import FUNCTIONS, reference

__all__ = ["DEFAULT", "TIGHT", "Array", "Case", "cases", "matrices"]

Array: TypeAlias = NDArray[Any]

TIGHT = 1e-5
DEFAULT = 1e-3
HALF = 1e-2


@dataclass(frozen=True, slots=True)
class Case:
    """One call and how close its answer must be to its definition.

    Attributes:
        title: the name printed.
        function: the client's method.
        inputs: arrays in the method's order.
        bound: relative error in the Frobenius norm that every answer must stay below.
        keywords: parameters, options and optional inputs.
    """

    title: str
    function: str
    inputs: tuple[Array, ...]
    bound: float = DEFAULT
    keywords: dict[str, Any] = field(default_factory=dict)

    def truth(self, shifts: Array) -> tuple[Array, ...]:
        """The exact outputs for the shifts that the certificates state."""
        entry = FUNCTIONS[self.function]
        required = (one.name for one in entry.inputs if not one.optional)
        optional = {one.name: self.keywords[one.name] for one in entry.inputs if one.name in self.keywords}
        parameters = {one.name: self.keywords[one.name] for one in entry.parameters if one.name in self.keywords}
        first = self.inputs[0].shape
        shift = shifts.reshape(first[: len(first) - len(entry.inputs[0].shape)])
        inputs = dict(zip(required, self.inputs, strict=True)) | optional
        return reference.value(self.function, inputs, parameters, shift)


def matrices() -> dict[str, Array]:
    """The matrices that ship with the project, by name."""
    return dict(np.load(Path(__file__).parent / "matrices.npz", allow_pickle=False))


def cases() -> list[Case]:
    """Roots, polar factors and triangular problems on every kind of matrix that ships with the project."""
    data = matrices()
    return [*_shampoo(data), *_covariances(data), *_momenta(data), *_deltanet(data)]


def _shampoo(data: dict[str, Array]) -> list[Case]:
    found = []
    for key in ("shampoo_l_step1", "shampoo_l_step20", "shampoo_r_step20"):
        a = data[key]
        found += [
            Case(f"{key} tol=1e-5", "inv_root", (a,), TIGHT, {"r": 4, "tol": TIGHT}),
            Case(key, "inv_root", (a,), DEFAULT, {"r": 4}),
            Case(key, "root", (a,), DEFAULT, {"r": 2}),
            Case(key, "sqrt_pair", (a,), DEFAULT),
        ]
    blocks = np.stack([data["shampoo_l_step20"][i : i + 64, i : i + 64] for i in range(0, 256, 64)])
    return [*found, Case("shampoo blocks of 64", "inv_root", (blocks,), DEFAULT, {"r": 2})]


def _covariances(data: dict[str, Array]) -> list[Case]:
    digits, fid = data["digits_covariance"], data["fid_cov_a"]
    vectors = np.random.default_rng(0).standard_normal((8, 64))
    damped = {"r": 2, "damping": 1e-3}
    return [
        Case("digits (singular)", "root", (digits,), TIGHT, {"r": 2}),
        Case("digits damping=1e-3", "inv_root", (digits,), 1e-9, damped),
        Case("digits damping=1e-3", "log", (digits,), 1e-9, {"damping": 1e-3}),
        Case("digits / 100", "exp", (digits / 100,), 1e-10),
        Case("digits damping=1e-3", "power", (digits,), 1e-9, {"p": -0.3, "damping": 1e-3}),
        Case("digits whitening", "inv_root", (digits,), 1e-9, {**damped, "g": vectors}),
        Case("fid covariance (rank 95)", "root", (fid,), TIGHT, {"r": 2}),
    ]


def _momenta(data: dict[str, Array]) -> list[Case]:
    found = []
    for key in ("momentum_q_step20", "momentum_up_step300"):
        m = data[key].astype(np.float32)
        middle = float(np.linalg.norm(m.astype(np.float64), 2) / 2)
        found += [
            Case(f"{key} tol=1e-5", "msign", (m,), TIGHT, {"tol": TIGHT}),
            Case(key, "polar", (m,), DEFAULT),
            Case(key, "mclip", (m,), DEFAULT, {"hi": middle, "lo": middle / 100}),
        ]
    return [*found, Case("momentum_up_step300", "msign", (data["momentum_up_step300"],), HALF)]


def _deltanet(data: dict[str, Array]) -> list[Case]:
    keys, beta = data["deltanet_keys"], data["deltanet_beta"]
    diag, q = np.ones_like(beta), beta[..., None] * keys
    dense = reference.dplr_matrix(diag, q, keys).astype(np.float32)
    b = np.random.default_rng(1).standard_normal((4, 64, 32)).astype(np.float32)
    return [
        Case("deltanet chunks", "dplr_solve", (diag, q, keys, b), TIGHT, {"tol": TIGHT}),
        Case("deltanet chunks", "dplr_inv", (diag, q, keys), TIGHT),
        Case("deltanet chunks", "tri_inv", (dense,), TIGHT),
        Case("deltanet chunks", "tri_solve", (dense, b), TIGHT, {"transpose": True}),
    ]
