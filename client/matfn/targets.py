"""The files that answers go to: chosen and checked before anything is computed."""

from __future__ import annotations

import os
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from matfn.array_files import STANDARD, os_reason, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["spare_targets", "targets_of"]

_SUFFIX: Final = ".npy"
_WRITTEN: Final = (_SUFFIX, ".npz", ".csv", ".mtx")


def targets_of(outputs: Sequence[str], paths: Sequence[Path]) -> dict[str, Path]:
    """The file of each output: the one named for it, a single P.npz, or beside a single P.npy P.y.npy for the next.

    A misspelt name is a usage error; a folder that takes no file ends the command before anything is computed.
    """
    for path in paths:
        if path != STANDARD and path.suffix not in _WRITTEN:
            raise typer.BadParameter(f"-o {path} does not end in {', '.join(_WRITTEN[:-1])} or {_WRITTEN[-1]}")
    if len(paths) == 1:
        targets = _around(outputs, paths[0])
    elif len(paths) in {0, len(outputs)}:
        targets = dict(zip(outputs, paths, strict=False))
    else:
        raise typer.BadParameter(f"there are {len(outputs)} outputs and {len(paths)} files; name one file, or one each")
    if len(set(targets.values())) < len(targets) and paths[0].suffix != ".npz":
        raise typer.BadParameter("two outputs would go to the same file")
    for path in set(targets.values()) - {STANDARD}:
        _require_writable(path)
    return targets


def _around(outputs: Sequence[str], path: Path) -> dict[str, Path]:
    """The files of all outputs beside the one that is named, which holds the first, or as .npz all of them."""
    if path.suffix == ".npz":
        return dict.fromkeys(outputs, path)
    if path == STANDARD and len(outputs) > 1:
        raise typer.BadParameter(f"-o - takes one output of the {len(outputs)}; name a file for each")
    return {name: path.with_suffix(f".{name}{path.suffix}") for name in outputs} | {outputs[0]: path}


def spare_targets(function: str, outputs: Sequence[str]) -> dict[str, Path]:
    """New files in the current folder for outputs that no file was named for; none where no file can be written."""
    if _obstacle(Path(f"{function}{_SUFFIX}")):
        return {}
    return {name: _unused(f"{function}.{name}") for name in outputs}


def _unused(stem: str) -> Path:
    """The path of a file that does not exist yet."""
    further = (Path(f"{stem}.{number}{_SUFFIX}") for number in count(2))
    return next(path for path in chain([Path(f"{stem}{_SUFFIX}")], further) if not path.exists())


def _require_writable(path: Path) -> None:
    try:
        obstacle = _obstacle(path)
    except OSError as error:
        obstacle = os_reason(error)
    if obstacle:
        refuse("output", f"{path} cannot be written: {obstacle}")


def _obstacle(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.is_dir():
        return "it is a folder"
    return "" if os.access(path if path.exists() else path.parent, os.W_OK) else "no permission"
