"""The form of the catalogue's entries: inputs with their shapes, parameters with their domains, outputs and errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VERIFY", "Function", "Heads", "Input", "Parameter", "Value", "Verifiability"]

Value: TypeAlias = bool | int | float | str | tuple[tuple[float, float, float], ...] | None
Kind: TypeAlias = Literal["integer", "number", "boolean", "string", "coefficients", "damping"]
Verifiability: TypeAlias = Literal["bound", "estimate", "none"]


VERIFY: Final = "verify/"
"""Prefix of the names of verifications, as in their routes."""


@dataclass(frozen=True, slots=True)
class Input:
    """A matrix or vector argument.

    Attributes:
        name: of the argument.
        shape: names of the trailing dimensions; equal names are equal sizes.
        summary: in a few words.
        optional: whether it may be left out.
        symmetric: whether it must be symmetric (Hermitian), but under structure="general".
        triangular: whether only the triangle that the parameter `lower` names is read.
        nonzero: whether no entry, or of a matrix none on its diagonal, may be zero.
        nonpositive: whether no entry may be above 0.
        padding: the number that continues the diagonal of a larger matrix with the same answer in its leading part;
            zeros continue the rest.
    """

    name: str
    shape: tuple[str, ...]
    summary: str
    optional: bool = False
    symmetric: bool = False
    triangular: bool = False
    nonzero: bool = False
    nonpositive: bool = False
    padding: float = 0.0


@dataclass(frozen=True, slots=True)
class Parameter:
    """A scalar argument with its default and its domain, both bounds inclusive."""

    name: str
    kind: Kind
    summary: str
    default: Value = None
    required: bool = False
    nullable: bool = False
    positional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Heads:
    """Two inputs (heads, width, ...) whose heads are paired or grouped, each head of keys shared by several of queries.

    Attributes:
        queries: name of the input with the queries' heads.
        keys: name of the input with the keys' heads.
        variant: name of the parameter that says how they are paired; None: always grouped.
    """

    queries: str
    keys: str
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """One matrix function.

    Attributes:
        name: by which it is called.
        summary: one sentence.
        formula: its definition.
        inputs: arguments that are arrays.
        source: literature.
        methods: by their names in certificates.
        output_shapes: names of each output's trailing dimensions; "m|n" is m where an input has it, and else n.
        reference: name of its float64 definition in `matfn_kernels.reference`.
        verifiability: what the inputs and a claimed answer alone tell of its error: a bound that is proved where the
            matrices allow a proof, an estimate through a residual and a separation of eigenvalues, or none.
        parameters: arguments that are scalars.
        outputs: names, in order.
        complex_ok: whether complex inputs are taken.
        embeds: whether the real embedding [[Re, -Im], [Im, Re]] of a complex input has that of the answer.
        heads: how heads of attention are tied.
        errors: codes of the problems that its calls can have.
        claims: names of the inputs that are claimed outputs, of an entry that verifies another function's answers.
    """

    name: str
    summary: str
    formula: str
    inputs: tuple[Input, ...]
    source: str
    methods: tuple[str, ...]
    output_shapes: tuple[tuple[str, ...], ...]
    reference: str
    verifiability: Verifiability = "none"
    parameters: tuple[Parameter, ...] = ()
    outputs: tuple[str, ...] = ("x",)
    complex_ok: bool = False
    embeds: bool = False
    heads: Heads | None = None
    errors: tuple[str, ...] = field(default=("invalid_shape", "invalid_parameter", "unsupported_dtype", "not_finite"))
    claims: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The name of the function that is computed: for a verification the one whose answer is claimed."""
        return self.name.removeprefix(VERIFY)

    def verification(self) -> Function:
        """The entry that verifies answers of this function: its inputs after the claimed outputs, and no outputs."""
        claims = tuple(
            Input(name, shape, f"the claimed output {name}")
            for name, shape in zip(self.outputs, self.output_shapes, strict=True)
        )
        return replace(
            self,
            name=VERIFY + self.name,
            summary=f"Certificates of a claimed answer of {self.name}.",
            inputs=(*claims, *self.inputs),
            outputs=(),
            output_shapes=(),
            claims=self.outputs,
        )

    def output_elements(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Numbers in each output of one matrix, by the sizes of the inputs' dimensions."""
        return tuple(math.prod(_size(label, sizes) for label in shape) for shape in self.output_shapes)


def _size(label: str, sizes: Mapping[str, int]) -> int:
    return next(sizes[name] for name in label.split("|") if name in sizes)
