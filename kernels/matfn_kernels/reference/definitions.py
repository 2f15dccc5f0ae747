"""The definitions by the names that the catalogue's entries give, and the function that calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from matfn_kernels.contract.functions import FUNCTIONS
from matfn_kernels.reference.attention import delta_rule, max_logit, qk_clip
from matfn_kernels.reference.equations import (
    solve_care,
    solve_dare,
    solve_discrete_lyapunov,
    solve_lyapunov,
    solve_sylvester,
)
from matfn_kernels.reference.hermitian import eig_clip, eigenbasis, eigh, frechet_distance, geometric_mean
from matfn_kernels.reference.polar import cond, mclip, msign, norm2, polar
from matfn_kernels.reference.roots import inv_root, root, sqrt_pair
from matfn_kernels.reference.sign import mcsgn, spectral_projector
from matfn_kernels.reference.spectral import exp, log, real_power
from matfn_kernels.reference.triangular import dplr_solve, tri_solve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matfn_kernels.reference.arrays import Array

__all__ = ["DEFINITIONS", "value"]

Definition: TypeAlias = "Callable[..., Array | tuple[Array, ...]]"

DEFINITIONS: Final[Mapping[str, Definition]] = {
    definition.__name__: definition
    for definition in (
        root,
        inv_root,
        sqrt_pair,
        log,
        exp,
        real_power,
        msign,
        mclip,
        polar,
        norm2,
        cond,
        mcsgn,
        spectral_projector,
        solve_sylvester,
        solve_lyapunov,
        solve_discrete_lyapunov,
        solve_care,
        solve_dare,
        tri_solve,
        dplr_solve,
        frechet_distance,
        eig_clip,
        eigh,
        eigenbasis,
        geometric_mean,
        max_logit,
        qk_clip,
        delta_rule,
    )
}
"""Each takes a function's inputs and parameters by name, and the shift where the function has a damping."""


def value(
    function: str, inputs: Mapping[str, Array], parameters: Mapping[str, object], shift: float | Array | None = None
) -> tuple[Array, ...]:
    """The exact outputs of a function in float64, to within the rounding of a naive computation.

    Args:
        function: a name of the catalogue.
        inputs: arrays by name, in the dtype that was sent, all with the same leading dimensions or none.
        parameters: by name; those left out have the catalogue's defaults.
        shift: the number that was added to the diagonal, as certificates state it, one for all or (batch,); None for
            that among the parameters, if there is one.
    """
    entry = FUNCTIONS[function]
    arguments = {one.name: one.default for one in entry.parameters if not one.required} | dict(parameters)
    if "damping" in arguments:
        given = arguments["shift"]
        arguments |= {"shift": (given or 0.0) if shift is None else shift, "lifts": bool(given)}
    found = DEFINITIONS[entry.reference](**inputs, **arguments)
    return found if isinstance(found, tuple) else (found,)
