"""Signatures: all of a call that its plan may depend on, which is neither the matrices nor their number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from matfn_kernels.contract.functions import ENTRIES
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.numbers.precision import Precision, natural

if TYPE_CHECKING:
    import torch

    from matfn_kernels.contract.functions import Function, Value
    from matfn_kernels.programs.call import Call

__all__ = ["Signature"]


@dataclass(frozen=True, slots=True)
class Signature:
    """A call as the planner sees it.

    Attributes:
        function: a name of the catalogue.
        shapes: trailing shape of each input that is given.
        dtype: of the inputs.
        parameters: the function's parameters.
        method: the method asked for, or auto.
        tol: the tolerance asked for, or None.
        precision: the precision asked for.
        varying: names of the parameters of which each matrix has its own.
    """

    function: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    dtype: torch.dtype
    parameters: tuple[tuple[str, Value], ...]
    method: str
    tol: float | None
    precision: str
    varying: tuple[str, ...] = ()

    @classmethod
    def of(cls, call: Call) -> Signature:
        """The signature of a call; a verification has that of the function that it verifies."""
        entry = ENTRIES[call.function]
        apart = {*entry.claims, *call.varying}
        given = ((name, tensor) for name, tensor in call.inputs.items() if name not in apart)
        shapes = tuple((name, tuple(tensor.shape[1:])) for name, tensor in given)
        options = call.options
        parameters = tuple(call.parameters.items())
        asked = options.method, options.tol, options.precision
        return cls(_computed(entry), shapes, call.dtype, parameters, *asked, call.varying)

    def at(self, values: tuple[float, ...]) -> Signature:
        """The signature of the matrices that have these values of the varying parameters."""
        return replace(self, parameters=(*self.parameters, *zip(self.varying, values, strict=True)), varying=())

    @property
    def subject(self) -> str:
        """The function itself, also of a vector-Jacobian product."""
        return ENTRIES[self.function].subject

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the optional inputs that are given: of each matrix of a batch the same."""
        named = ENTRIES[self.function].inputs
        return tuple(entry.name for entry in named if entry.optional and self.shape(entry.name) is not None)

    @property
    def cotangents(self) -> tuple[str, ...]:
        """Names of the cotangents that a call of a vector-Jacobian product gives."""
        return tuple(name for name in ENTRIES[self.function].cotangents if self.shape(name) is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs that are given and of which a vector-Jacobian product has gradients, in their order."""
        return tuple(name for name in ENTRIES[self.function].gradients if self.shape(name) is not None)

    @property
    def is_pinned(self) -> bool:
        """Whether a method was asked for, which excludes all others."""
        return self.method != "auto"

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Trailing shape of an input, None if it is not given."""
        return dict(self.shapes).get(name)

    def sizes(self, name: str) -> tuple[int, ...]:
        """Trailing shape of an input that is given."""
        return dict(self.shapes)[name]

    @property
    def dimensions(self) -> dict[str, int]:
        """Sizes by the names that the catalogue gives to dimensions."""
        names = {entry.name: entry.shape for entry in self.entry.inputs}
        return {label: size for name, shape in self.shapes for label, size in zip(names[name], shape, strict=True)}

    @property
    def entry(self) -> Function:
        """The catalogue's entry, with the shapes that the parameters give it."""
        return ENTRIES[self.function].packed(dict(self.parameters))

    def parameter(self, name: str) -> Value:
        """A parameter's value, None if the function has none of that name."""
        return dict(self.parameters).get(name)

    def precisions(self) -> tuple[Precision, Precision]:
        """The cheapest and the highest precision that may compute; equal where one was named.

        Raises:
            Rejection: if there is no such arithmetic for the dtype.
        """
        if self.precision == "auto":
            return natural(self.dtype), Precision.FP64
        named = Precision(self.precision)
        if named is Precision.BF16 and self.dtype.is_complex:
            raise Rejection(
                "invalid_parameter", "there is no complex bf16 arithmetic", 'use precision="fp32" or "auto"'
            )
        return named, named

    def direct_precisions(self) -> tuple[Precision, Precision]:
        """`precisions` of a function computed directly, for which bf16 keeps no digit.

        Raises:
            Rejection: if bf16 was named.
        """
        low, ceiling = self.precisions()
        if ceiling is Precision.BF16:
            raise Rejection(
                "invalid_parameter",
                f"{self.function}() has no bf16 arithmetic: it would lose every digit",
                'use precision="fp32" or "auto"; bf16 inputs are fine',
            )
        return low, ceiling

    def require_double(self) -> None:
        """Refuses named precisions below float64, for functions that have no other arithmetic.

        Raises:
            Rejection: if a lower precision was named.
        """
        if self.precisions()[1] is not Precision.FP64:
            raise Rejection(
                "invalid_parameter",
                f"{self.function}() is computed in fp64 only: it may lose more digits than {self.precision} has",
                'use precision="fp64" or "auto"; inputs of any dtype are fine',
            )

    def tolerates(self, error: float) -> bool:
        """Whether a method with that relative error may be tried."""
        return self.tol is None or self.tol >= error


def _computed(entry: Function) -> str:
    """The name of what is computed: for a verification the function whose answer is claimed."""
    return entry.subject if entry.claims else entry.name
