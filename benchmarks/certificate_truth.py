"""The exact values of the study's answers, in extended precision, and what these values may be off by."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

import exact_definitions
import exact_equations
import exact_spectral
import long_double
from certificate_inputs import numbers
from exact_value import Exact, Found
from long_double import adjoint
from matfn_kernels import FUNCTIONS, reference
from matrix_distances import distance, norm, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from certificate_inputs import Sample

__all__ = ["SPECTRAL", "Exact", "Truth"]

Array: TypeAlias = "NDArray[Any]"

SPECTRAL: Final = frozenset({"root", "inv_root", "sqrt_pair", "log", "exp", "power"})
"""Functions f(A) = V f(W) V^-1 of the eigenvalues of A."""
_SHARE: Final = 1 / 20
"""Of the distance between a value in extended precision and one in float64, what the former may be off by: its unit is
2048 times smaller."""
_SINGLE: Final = 2.0**-23
"""The spacing of float32, in whose units half precision's small singular values are judged too."""
_SPACINGS: Final = {"bf16": 2.0**-7, "fp32": _SINGLE, "fp64": 2.0**-52}


class Truth:
    """The exact functions of a sample; its decompositions are computed once for all of its calls."""

    def __init__(self, function: str, sample: Sample) -> None:
        """Keeps what is sent, whatever the options."""
        self.function = function
        self.sample = sample
        self.inputs = dict(sample.inputs)
        self.plain = {name: numbers(tensor) for name, tensor in sample.inputs.items()}
        self.wide = {name: long_double.extended(array) for name, array in self.plain.items()}
        first = next(iter(sample.inputs.values()))
        self.eps = _eps(first)

    def of(self, parameters: dict[str, Any], shift: Array, precision: str = "auto") -> Exact:
        """The values for some parameters and the shifts that certificates state; what has no value is not finite.

        A precision that is named counts where the definition is in units of the coarser spacing.
        """
        with np.errstate(all="ignore"):
            return self._of(parameters, shift, 8 * max(self.eps, _SPACINGS.get(precision, 0.0)))

    def _of(self, parameters: dict[str, Any], shift: Array, cut: float) -> Exact:
        chosen = {one.name: one.default for one in FUNCTIONS[self.function].parameters} | parameters
        if self.function in SPECTRAL:
            is_power = self.function in {"root", "inv_root", "sqrt_pair"}
            of_spectrum = exact_spectral.powers if is_power else exact_spectral.analytic
            return of_spectrum(self, chosen, shift, cut if chosen.get("damping") == "range" else -np.inf)
        if self.function in {"msign", "mclip", "polar"}:
            return self._polar(chosen)
        if self.function == "eig_clip":
            return self._eig_clip(chosen)
        if self.function in {"eigh", "eigenbasis"}:
            return self._eigenpairs()
        if self.function in {"norm2", "cond"}:
            return self._extremes()
        return self._compared(_OTHERS[self.function](self, chosen), parameters)

    @cached_property
    def eigen(self) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of A."""
        return long_double.eigh(self.wide["a"])

    @cached_property
    def singular(self) -> tuple[Array, Array, Array]:
        """U, s and V^H of M."""
        return long_double.svd(self.wide["m"])

    def _polar(self, chosen: dict[str, Any]) -> Exact:
        u, s, vh = self.singular
        limit = 8 * min(self.eps, _SINGLE) * s[:, :1]
        keep = s > limit
        noise = 4 * max(u.shape[-2:]) * long_double.EPS * s[:, 0]
        near = (np.abs(s - limit) <= noise[:, None]).any(-1)
        least = np.where(keep, s, np.inf).min(-1)
        factor = (u * keep[:, None, :]) @ vh
        turned = np.sqrt(s.shape[-1]) * ratio(noise, least)
        clear = (s[:, -1] > 8 * limit[:, 0]) & (s[:, 0] < exact_spectral.ORDINARY * s[:, -1])
        if self.function == "mclip":
            lo, hi = chosen["lo"], np.inf if chosen["hi"] is None else chosen["hi"]
            clipped = np.minimum(np.where(keep, np.maximum(s, lo), s), hi)
            value = (u * clipped[:, None, :]) @ vh
            error = ratio(lo * turned + np.sqrt(s.shape[-1]) * noise, norm(value))
            return Exact((value,), np.where(near & (lo > 0), np.inf, error), clear | (lo == 0))
        error = np.where(near, np.inf, ratio(turned, np.sqrt(keep.sum(-1))))
        second = ((adjoint(vh) * s[:, None, :]) @ vh,) if self.function == "polar" else ()
        return Exact((factor, *second), error, clear)

    def _eig_clip(self, chosen: dict[str, Any]) -> Exact:
        w, v = self.eigen
        bounds = (-np.inf if chosen["lo"] is None else chosen["lo"], np.inf if chosen["hi"] is None else chosen["hi"])
        value = (v * np.clip(w, *bounds)[:, None, :]) @ adjoint(v)
        noise = 4 * w.shape[-1] * long_double.EPS * np.abs(w).max(-1)
        return Exact((value,), ratio(np.sqrt(w.shape[-1]) * noise, norm(value)))

    def _extremes(self) -> Exact:
        """Both ends of an interval at the norm, or at the condition number, whose error grows with it."""
        s = self.singular[1]
        value = s[:, 0] if self.function == "norm2" else s[:, 0] / s[:, -1]
        growth = 1.0 if self.function == "norm2" else value.astype(float)
        return Exact((value, value), 8.0 * s.shape[-1] * long_double.EPS * growth * np.ones(len(s)))

    def _eigenpairs(self) -> Exact:
        """Eigenvalues, and how far a basis that is given is from diagonalising A."""
        w, size = self.eigen[0], norm(self.wide["a"])
        error = np.full(len(w), 8.0 * w.shape[-1] * long_double.EPS)
        if self.function == "eigh":
            return Exact((w,), error)
        q = self.wide["q"]
        rest = adjoint(q) @ self.wide["a"] @ q
        return Exact((w, ratio(norm(rest * (1 - np.eye(w.shape[-1]))), size)), error)

    def errors(self, outputs: Sequence[Any], exact: Exact) -> Array:
        """The largest relative error of each answer's outputs, (batch,)."""
        found = [long_double.extended(numbers(x)) for x in outputs]
        if self.function == "eigh":
            w, v = found
            return reference.eigenpair_errors(self.wide["a"], w, v, exact.outputs[0]).astype(float)
        if self.function == "eigenbasis":
            return self._errors_of_basis(found, exact)
        worst: Array = np.max([distance(x, y, exact.scale) for x, y in zip(found, exact.outputs, strict=True)], axis=0)
        return worst

    def _errors_of_basis(self, found: Sequence[Array], exact: Exact) -> Array:
        """Those of the eigenpairs and the drift; a basis that came back has no error of its own."""
        q, w, drift, _ = found
        pairs = reference.eigenpair_errors(self.wide["a"], w, q, exact.outputs[0])
        kept = (q == self.wide["q"]).all((-2, -1))
        own = np.diagonal(adjoint(q) @ self.wide["a"] @ q, axis1=-2, axis2=-1).real  # of q itself, if it came back
        worst: Array = np.maximum(
            np.where(kept, np.minimum(distance(w, own), distance(np.sort(w), exact.outputs[0])), pairs),
            np.abs(drift - exact.outputs[1]),
        )
        return worst.astype(float)

    def _compared(self, found: tuple[tuple[Array, ...], Array | None], parameters: dict[str, Any]) -> Exact:
        """Values whose error is judged by their distance from the float64 definition."""
        outputs, scale = found
        other: tuple[Array, ...]
        if (
            self.function == "geometric_mean"
        ):  # is symmetric in its arguments, and the definition loses more than digits
            other, share = (
                (exact_definitions.mean_of(self.wide["b"], self.wide["a"], 1 - parameters.get("t", 0.5)),),
                4.0,
            )
        else:
            other, share = self.by_definition(parameters) or tuple(np.full_like(x, np.nan) for x in outputs), _SHARE
        apart = [distance(long_double.extended(x), y, scale) for x, y in zip(other, outputs, strict=True)]
        error = np.max(apart, axis=0) * share + 100 * long_double.EPS
        return Exact(outputs, np.nan_to_num(error, nan=np.inf), scale=scale)

    def by_definition(self, parameters: dict[str, Any]) -> tuple[Array, ...]:
        """The float64 definition's values, NaN of the items that it refuses; nothing where it refuses all."""
        try:
            return reference.value(self.function, self.plain, parameters)
        except (np.linalg.LinAlgError, ValueError):
            singles = [self._of_one(item, parameters) for item in range(len(self.sample.kinds))]
            good = next((one for one in singles if one), None)
            if good is None:
                return ()
            rows = [one or tuple(np.full_like(x, np.nan) for x in good) for one in singles]
            return tuple(np.concatenate(column) for column in zip(*rows, strict=True))

    def _of_one(self, item: int, parameters: dict[str, Any]) -> tuple[Array, ...]:
        one = {name: array[item : item + 1] for name, array in self.plain.items()}
        try:
            return reference.value(self.function, one, parameters)
        except (np.linalg.LinAlgError, ValueError):
            return ()


def _eps(tensor: Any) -> float:
    import torch

    return float(torch.finfo(tensor.dtype).eps)


_OTHERS: Final[dict[str, Callable[[Truth, dict[str, Any]], Found]]] = {
    "mcsgn": exact_equations.sign,
    "spectral_projector": exact_equations.sign,
    "solve_sylvester": exact_equations.linear,
    "solve_lyapunov": exact_equations.linear,
    "solve_discrete_lyapunov": exact_equations.linear,
    "solve_care": exact_equations.continuous_riccati,
    "solve_dare": exact_equations.discrete_riccati,
    "tri_inv": exact_definitions.triangular,
    "tri_solve": exact_definitions.triangular,
    "dplr_inv": exact_definitions.low_rank,
    "dplr_solve": exact_definitions.low_rank,
    "frechet_distance": exact_definitions.distance_of_gaussians,
    "geometric_mean": exact_definitions.mean,
    "max_logit": exact_definitions.logits,
    "qk_clip": exact_definitions.clipped,
    "delta_rule": exact_definitions.delta_rule,
}
