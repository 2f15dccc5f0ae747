"""The .npy files of `matfn run`: read with one clear line on failure, and written to paths that were checked before."""

from __future__ import annotations

import os
from itertools import chain, count
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import typer

from matfn.complaints import Exit, fail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO, NoReturn

    from numpy.typing import NDArray

__all__ = ["read_array", "spare_targets", "targets_of", "write_array"]

_SUFFIX: Final = ".npy"
_NPY: Final = b"\x93NUMPY"
_ZIP: Final = b"PK\x03\x04"
_CONTENT: Final = {"O": "Python objects", "U": "text", "S": "text", "V": "records", "M": "dates", "m": "durations"}


def read_array(path: Path) -> NDArray[Any]:
    """The array of numbers in a .npy file; anything else ends the command with one line about it."""
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except OSError as error:
        _refuse("input", f"{path} cannot be read: {_reason(error)}")
    except (ValueError, EOFError, TypeError, SyntaxError, TokenError):
        _refuse("input", f"{path} is damaged: its header or its data is not what the .npy format has")


def _read(path: Path, file: BinaryIO) -> NDArray[Any]:
    start = file.read(len(_NPY))
    if start.startswith(_ZIP):
        _refuse("input", f"{path} is an .npz archive of several arrays; save one of them with numpy.save")
    if start != _NPY:
        _refuse("input", f"{path} is no .npy file; numpy.save writes them")
    file.seek(0)
    shape, _, dtype = _header(file)
    if dtype.kind in _CONTENT:
        _refuse("input", f"{path} holds {_CONTENT[dtype.kind]} ({dtype}), not numbers")
    if prod(shape) * dtype.itemsize > os.fstat(file.fileno()).st_size - file.tell():
        raise EOFError  # before memory is taken for what the header promises
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype; versions of the format differ in the header's length and encoding."""
    if np.lib.format.read_magic(file) == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def targets_of(outputs: Sequence[str], paths: Sequence[Path]) -> dict[str, Path]:
    """The file of each output: the one named for it, or beside a single P.npy the further ones as P.y.npy.

    A misspelt name is a usage error; a folder that takes no file ends the command before anything is computed.
    """
    for path in paths:
        if path.suffix != _SUFFIX:
            raise typer.BadParameter(f"-o {path} does not end in {_SUFFIX}")
    if len(paths) == 1:
        first = paths[0]
        targets = {name: first.with_suffix(f".{name}{_SUFFIX}") for name in outputs} | {outputs[0]: first}
    elif len(paths) in {0, len(outputs)}:
        targets = dict(zip(outputs, paths, strict=False))
    else:
        raise typer.BadParameter(f"there are {len(outputs)} outputs and {len(paths)} files; name one file, or one each")
    if len(set(targets.values())) < len(targets):
        raise typer.BadParameter("two outputs would go to the same file")
    for path in targets.values():
        _require_writable(path)
    return targets


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
        obstacle = _reason(error)
    if obstacle:
        _refuse("output", f"{path} cannot be written: {obstacle}")


def _obstacle(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.is_dir():
        return "it is a folder"
    return "" if os.access(path if path.exists() else path.parent, os.W_OK) else "no permission"


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Saves an array under exactly this name."""
    try:
        with path.open("wb") as file:
            np.save(file, array)
    except OSError as error:
        _refuse("output", f"{path} cannot be written: {_reason(error)}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _refuse(kind: str, detail: str) -> NoReturn:
    fail(f"unusable {kind}", detail, exit_code=Exit.UNUSABLE)
