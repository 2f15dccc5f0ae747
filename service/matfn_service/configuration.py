"""Settings of the command line and the environment, validated: a line for each fault."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal, get_args, get_origin

import torch
from pydantic import ValidationError

from matfn_kernels import read_profile
from matfn_service.executor import chosen_device
from matfn_service.settings import Settings
from matfn_service.site import BrokenSite, read_site
from matfn_service.telemetry_settings import endpoint_faults
from matfn_service.unknown_settings import unknown_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

__all__ = ["Misconfigured", "configured"]

_NOT_DERIVED: Final = "default_factory_not_called"  # of settings that follow from an invalid one
_KINDS: Final[dict[object, str]] = {int: "a whole number", float: "a number"}


class Misconfigured(Exception):  # noqa: N818 - the user's fault, told to the user
    """Settings under which the server cannot start.

    Attributes:
        faults: one line each: what was written, and what is allowed there.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def configured(options: Mapping[str, object]) -> Settings:
    """The settings of the environment, overridden by these options of the command line.

    Raises:
        Misconfigured: if one of them is not what it may be, or asks for what this machine has not, or if a variable is
            named like a setting that there is not, or OpenTelemetry is to send to what is no address.
    """
    unknown = [*unknown_settings(os.environ), *endpoint_faults(os.environ)]
    try:
        settings = Settings.model_validate(dict(options))
    except ValidationError as error:
        faults = [_fault(entry, options) for entry in error.errors() if entry["type"] != _NOT_DERIVED]
        raise Misconfigured(faults + unknown) from None
    faults = [f"{_written(name, value, options)}: {reason}" for name, value, reason in _missing(settings)]
    faults += unknown
    if faults:
        raise Misconfigured(faults)
    return settings


def _written(name: str, value: object, options: Mapping[str, object]) -> str:
    return f"--{name} {value}" if name in options else f"MATFN_{name.upper()}={value}"


def _fault(entry: ErrorDetails, options: Mapping[str, object]) -> str:
    if not entry["loc"]:  # of several settings together; the words are our own
        return entry["msg"].removeprefix("Value error, ")
    name = str(entry["loc"][0])
    return f"{_written(name, entry['input'], options)}: must be {_allowed(Settings.model_fields[name])}"


def _allowed(field: FieldInfo) -> str:
    """The values that a field takes, in words."""
    kind = next((entry for entry in get_args(field.annotation) if entry in _KINDS), field.annotation)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    bounds = {
        name: getattr(rule, name) for rule in field.metadata for name in ("ge", "gt", "le") if hasattr(rule, name)
    }
    words = {"ge": "of at least", "gt": "above", "le": "and at most"}
    allowed = " ".join([_KINDS.get(kind, "a value"), *(f"{words[name]} {bound}" for name, bound in bounds.items())])
    return f"{allowed}, in bytes" if "in bytes" in (field.description or "") else allowed


def _missing(settings: Settings) -> Iterator[tuple[str, object, str]]:
    """Names and values of settings that this machine cannot meet, and the reasons."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        yield "device", "cuda", "PyTorch finds no GPU on this machine; auto and cpu work without one"
    if settings.grpc_port is not None and find_spec("grpc") is None:
        yield "grpc_port", settings.grpc_port, "grpcio is not installed; pip install 'matfn[grpc]' installs it"
    reason = None if settings.uds is None else _unfit(settings.uds)
    if reason is not None:
        yield "uds", settings.uds, reason
    reason = None if settings.profile is None else _unread(settings.profile, chosen_device(settings))
    if reason is not None:
        yield "profile", settings.profile, reason
    reason = None if settings.site is None else _unserved(settings.site)
    if reason is not None:
        yield "site", settings.site, reason


def _unread(path: Path, device: str) -> str | None:
    """Why a profile cannot be used; None if it can."""
    try:
        read_profile(path, device)
    except ValueError as error:
        return str(error)
    return None


def _unserved(path: Path) -> str | None:
    """Why an archive of the documentation cannot be served; None if it can."""
    try:
        read_site(path)
    except BrokenSite as error:
        return str(error)
    return None


def _unfit(path: Path) -> str | None:
    """Why there can be no socket at this path; None if there can."""
    try:
        if not path.parent.is_dir():
            return f"there is no folder {path.parent}"
        if path.exists() and not path.is_socket():
            return "there is something else than a socket at this path; it must be free, or a socket no server uses"
    except OSError as error:
        return str(error.strerror)
    return None
