"""The form of the catalogue's entries: inputs with their shapes, parameters with their domains, outputs and errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

__all__ = [
    "VERIFY",
    "VJP",
    "Function",
    "Heads",
    "Input",
    "OnRequest",
    "Packing",
    "Parameter",
    "Value",
    "Verifiability",
]

Value: TypeAlias = bool | int | float | str | tuple[tuple[float, float, float], ...] | tuple[int, ...] | None
Kind: TypeAlias = Literal["integer", "number", "boolean", "string", "coefficients", "damping", "offsets"]
Verifiability: TypeAlias = Literal["bound", "estimate", "none"]
OutputKind: TypeAlias = Literal["same", "real", "index"]
_SAME: Final[OutputKind] = "same"
_OVERFLOW: Final = "out_of_range"
"""Of gradients, which may be large where no value is."""


VERIFY: Final = "verify/"
"""Prefix of the names of verifications, as in their routes."""
VJP: Final = "vjp/"
"""Prefix of the names of vector-Jacobian products, as in their routes."""


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
        orthonormal: whether its columns must be orthonormal.
        excludes: name of the input that may not be given beside it.
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
    orthonormal: bool = False
    excludes: str | None = None
    padding: float = 0.0


@dataclass(frozen=True, slots=True)
class Parameter:
    """A scalar argument with its default and its domain, both bounds inclusive.

    Attributes:
        name: of the argument.
        kind: of its values.
        summary: in a few words.
        default: its value where none is given.
        required: whether it has no default.
        nullable: whether it may be None.
        positional: whether it may be given by position.
        minimum: least number.
        maximum: largest number, or most rows.
        choices: the strings that it may be.
        replaces: whether it replaces the function by an approximation, which has another derivative.
        varies: whether it may be an array with a number for each matrix, broadcast with the leading dimensions.
    """

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
    replaces: bool = False
    varies: bool = False

    @property
    def as_input(self) -> Input:
        """The array of its numbers, where each matrix has its own, as an input of shape (*)."""
        return Input(self.name, (), self.summary, optional=True)


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
class Packing:
    """Sequences one behind the other along a dimension, where a parameter gives their offsets.

    Attributes:
        parameter: name of the parameter: the first row of each sequence, and the number of all rows.
        along: name of the dimension.
        inputs: names of the inputs of which each sequence has its own.
        outputs: names of the outputs of which each sequence has its own.
    """

    parameter: str
    along: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnRequest:
    """An output after the others that a call has where a parameter is true.

    Attributes:
        name: of the output.
        shape: names of its trailing dimensions.
        parameter: name of the parameter.
        summary: in a few words.
    """

    name: str
    shape: tuple[str, ...]
    parameter: str
    summary: str


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
        on_request: further outputs, which parameters ask for.
        kinds: of each output's dtype: that of the inputs ("same"), the real dtype of their precision ("real"), or whole
            numbers in the real dtype, float32 at least ("index"); () where all are the inputs'.
        complex_ok: whether complex inputs are taken.
        heads: how heads of attention are tied.
        packing: how sequences may be packed.
        errors: codes of the problems that its calls can have.
        claims: names of the inputs that are claimed outputs, of an entry that verifies another function's answers.
        gradient_methods: by which its vector-Jacobian products are computed; none where they are not.
        cotangents: names of the inputs that are cotangents of outputs, of an entry that is a vector-Jacobian product.
        gradients: names of the outputs of such an entry that are gradients, each that of the input it is named after.
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
    on_request: tuple[OnRequest, ...] = ()
    kinds: tuple[OutputKind, ...] = ()
    complex_ok: bool = False
    heads: Heads | None = None
    packing: Packing | None = None
    errors: tuple[str, ...] = field(default=("invalid_shape", "invalid_parameter", "unsupported_dtype", "not_finite"))
    claims: tuple[str, ...] = ()
    gradient_methods: tuple[str, ...] = ()
    cotangents: tuple[str, ...] = ()
    gradients: tuple[str, ...] = ()

    @property
    def differentiable(self) -> bool:
        """Whether its vector-Jacobian products are computed."""
        return bool(self.gradient_methods)

    @property
    def real_outputs(self) -> tuple[str, ...]:
        """Names of the outputs that are real for complex inputs too."""
        return tuple(name for name, kind in zip(self.outputs, self.kinds, strict=False) if kind != "same")

    @property
    def subject(self) -> str:
        """The name of the function whose answer is claimed or whose derivative is taken; else the entry's own name."""
        return self.name.removeprefix(VERIFY).removeprefix(VJP)

    @property
    def varying(self) -> tuple[Input, ...]:
        """The parameters that may be arrays, as inputs."""
        return tuple(entry.as_input for entry in self.parameters if entry.varies)

    @property
    def first(self) -> Input:
        """The first input that every call has."""
        return next(entry for entry in self.inputs if not entry.optional)

    def packed(self, parameters: Mapping[str, object]) -> Function:
        """The entry with the shapes of packed sequences, where a parameter gives their offsets."""
        packing = self.packing
        offsets = None if packing is None else parameters.get(packing.parameter)
        if packing is None or not isinstance(offsets, list | tuple):
            return self
        count = str(max(0, len(offsets) - 1))
        inputs = (replace(e, shape=(count, *e.shape)) if e.name in packing.inputs else e for e in self.inputs)
        named = zip(self.outputs, self.output_shapes, strict=True)
        outputs = ((count, *shape) if name in packing.outputs else shape for name, shape in named)
        return replace(self, inputs=tuple(inputs), output_shapes=tuple(outputs))

    def outputs_of(self, given: Container[str], parameters: Mapping[str, object]) -> tuple[str, ...]:
        """Names of the outputs of a call with these inputs and parameters: an input not given has no gradient."""
        always = (name for name in self.outputs if name not in self.gradients or name in given)
        return (*always, *(entry.name for entry in self.requested(parameters)))

    def requested(self, parameters: Mapping[str, object]) -> tuple[OnRequest, ...]:
        """The further outputs that parameters ask for."""
        return tuple(entry for entry in self.on_request if parameters.get(entry.parameter) is True)

    def verification(self) -> Function:
        """The entry that verifies answers of this function: its inputs after the claimed outputs, and no outputs."""
        claims = tuple(
            Input(name, shape, f"the claimed output {name}")
            for name, shape in zip(self.outputs, self.output_shapes, strict=True)
        )
        return replace(
            self.without_requests,
            name=VERIFY + self.name,
            summary=f"Certificates of a claimed answer of {self.name}.",
            inputs=(*claims, *self.inputs),
            outputs=(),
            output_shapes=(),
            claims=self.outputs,
        )

    @property
    def without_requests(self) -> Function:
        """The entry without the further outputs and the parameters that ask for them."""
        asking = {entry.parameter for entry in self.on_request}
        kept = tuple(parameter for parameter in self.parameters if parameter.name not in asking)
        return replace(self, parameters=kept, on_request=())

    def gradient(self) -> Function:
        """The entry of the vector-Jacobian product: cotangents and inputs; the outputs and the inputs' gradients."""
        cotangents = tuple(
            Input(name, shape, f"the cotangent of the output {name}", optional=len(self.outputs) > 1)
            for name, shape in zip(self.outputs, self.output_shapes, strict=True)
        )
        names = tuple(entry.name for entry in self.inputs)
        plain = self.without_requests
        return replace(
            plain,
            name=VJP + self.name,
            summary=f"Gradients of the inputs of {self.name} for cotangents of its outputs.",
            inputs=(*cotangents, *self.inputs),
            outputs=(*self.outputs, *names),
            output_shapes=(*self.output_shapes, *(entry.shape for entry in self.inputs)),
            kinds=(*self.kinds, *(_SAME for _ in self.inputs)) if self.kinds else (),
            parameters=tuple(entry for entry in plain.parameters if not entry.replaces),
            methods=self.gradient_methods,
            verifiability="none",
            errors=self.errors if _OVERFLOW in self.errors else (*self.errors, _OVERFLOW),
            gradient_methods=(),
            cotangents=self.outputs,
            gradients=names,
        )

    def output_elements(self, sizes: Mapping[str, int], parameters: Mapping[str, object]) -> tuple[int, ...]:
        """Numbers in each output of one matrix, by the sizes of the inputs' dimensions; 0 for one that it lacks."""
        further = ([_size(label, sizes) for label in entry.shape] for entry in self.requested(parameters))
        return tuple(map(math.prod, (*self.output_dimensions(sizes), *further)))

    def output_dimensions(self, sizes: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
        """Trailing dimensions of each output, by the sizes of the inputs' dimensions."""
        return tuple(tuple(_size(label, sizes) for label in shape) for shape in self.output_shapes)

    def sizes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Sizes of the inputs' dimensions by their names, from shapes that have as many dimensions at least."""
        return {
            label: size
            for item in self.inputs
            if item.name in shapes
            for label, size in zip(reversed(item.shape), reversed(shapes[item.name]), strict=False)
        }


def _size(label: str, sizes: Mapping[str, int]) -> int:
    """The size that a label stands for: a number for itself."""
    if label.isdigit():
        return int(label)
    return next((sizes[name] for name in label.split("|") if name in sizes), 0)
