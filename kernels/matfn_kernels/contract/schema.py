"""What an entry of the catalogue says: inputs with their shapes, parameters with their domains, outputs and errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["Function", "Input", "Parameter", "Value"]

Value: TypeAlias = bool | int | float | str | tuple[tuple[float, float, float], ...] | None
Kind: TypeAlias = Literal["integer", "number", "boolean", "string", "coefficients", "damping"]


@dataclass(frozen=True, slots=True)
class Input:
    """A matrix or vector argument; `shape` names its trailing dimensions, equal names are equal sizes."""

    name: str
    shape: tuple[str, ...]
    summary: str
    optional: bool = False


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
class Function:
    """One matrix function: its name, arguments, outputs, methods by their names in certificates, and its definition."""

    name: str
    summary: str
    formula: str
    inputs: tuple[Input, ...]
    source: str
    methods: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    outputs: tuple[str, ...] = ("x",)
    complex_ok: bool = False
    errors: tuple[str, ...] = field(default=("invalid_shape", "invalid_parameter", "unsupported_dtype", "not_finite"))
