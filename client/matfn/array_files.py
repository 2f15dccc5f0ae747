"""Files of arrays on the command line: .npy, .npz:name, .csv and .mtx by their suffix, and - for stdin and stdout.

Whatever is wrong with a file ends the command with one line about it. A .csv or .mtx file has rows and columns and
nothing else: a vector in it is one row or one column, and is written as one column; a number is written as itself.
"""

from __future__ import annotations

import sys
import warnings
import zipfile
from io import BytesIO
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from matfn.complaints import Exit, fail

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO, NoReturn

    from numpy.typing import NDArray

__all__ = ["STANDARD", "is_text", "os_reason", "read_array", "refuse", "write_arrays"]

STANDARD: Final = Path("-")
"""The path of stdin and stdout, which carry .npy."""
_NPY: Final = b"\x93NUMPY"
_ZIP: Final = b"PK\x03\x04"
_CONTENT: Final = {"O": "Python objects", "U": "text", "S": "text", "V": "records", "M": "dates", "m": "durations"}
_MATRIX: Final = 2  # dimensions of what a text file holds
_REAL: Final = "%.17g"
_COMPLEX: Final = "%.17g%+.17gj"  # numpy's own form has parentheses, which few others read


def is_text(path: Path) -> bool:
    """Whether a file holds rows and columns, and no other number of dimensions."""
    return path.suffix in {".csv", ".mtx"}


def read_array(path: Path) -> NDArray[Any]:
    """The array of numbers in a file; anything else ends the command with one line about it."""
    try:
        return _numbers(path, _read(path))
    except OSError as error:
        refuse("input", f"{path} cannot be read: {os_reason(error)}")
    except (ValueError, EOFError, TypeError, SyntaxError, TokenError, zipfile.BadZipFile):
        refuse("input", f"{path} is damaged: its header or its data is not what its format has")


def _read(path: Path) -> NDArray[Any]:
    archive, _, name = str(path).rpartition(":")
    if archive.endswith(".npz"):
        return _of_archive(Path(archive), name)
    if path == STANDARD:
        content = sys.stdin.buffer.read()
        return _of_npy(path, BytesIO(content), len(content))
    if path.suffix == ".csv":
        return _of_csv(path)
    if path.suffix == ".mtx":
        return _of_matrix_market(path)
    with path.open("rb") as file:
        if path.suffix == ".npz" or file.peek(len(_ZIP)).startswith(_ZIP):
            return _of_archive(path, "")
        return _of_npy(path, file, path.stat().st_size)


def _of_npy(path: Path, file: BinaryIO, size: int) -> NDArray[Any]:
    if file.read(len(_NPY)) != _NPY:
        refuse("input", f"{path} is no .npy file; numpy.save writes them")
    file.seek(0)
    shape, _, dtype = _header(file)
    if dtype.kind not in _CONTENT and prod(shape) * dtype.itemsize > size - file.tell():
        raise EOFError  # before memory is taken for what the header promises
    _numbers(path, np.empty(0, dtype))
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype; versions of the format differ in the header's length and encoding."""
    if np.lib.format.read_magic(file) == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _of_archive(path: Path, name: str) -> NDArray[Any]:
    """The array of this name in an archive, or the only one."""
    with zipfile.ZipFile(path) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist()]
        if name not in names and (name or len(names) != 1):
            refuse("input", f"{path} is an archive of {', '.join(names) or 'nothing'}: name one, as {path}:NAME")
        member = archive.getinfo(f"{name or names[0]}.npy")
        with archive.open(member) as file:
            return _of_npy(path, BytesIO(file.read()), member.file_size)


def _of_csv(path: Path) -> NDArray[Any]:
    with warnings.catch_warnings(action="ignore"):  # that of a file without numbers
        array = _loaded(path)
    if not array.size:
        refuse("input", f"{path} holds no numbers")
    return array


def _loaded(path: Path) -> NDArray[Any]:
    try:
        return np.loadtxt(path, delimiter=",", ndmin=_MATRIX)
    except ValueError:
        return np.loadtxt(path, np.complex128, delimiter=",", ndmin=_MATRIX)


def _of_matrix_market(path: Path) -> NDArray[Any]:
    scipy_io = _matrix_market(path, "input")
    matrix = scipy_io.mmread(path)
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


def _matrix_market(path: Path, kind: str) -> Any:
    """The readers and writers of scipy, which only this format needs."""
    try:
        import scipy.io
    except ImportError:
        refuse(kind, f"{path} is a Matrix Market file, for which scipy is missing: pip install scipy")
    return scipy.io


def _numbers(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind in _CONTENT:
        refuse("input", f"{path} holds {_CONTENT[array.dtype.kind]} ({array.dtype}), not numbers")
    return array


def write_arrays(targets: Mapping[str, Path], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Saves each output in its file; those of one .npz file together, by their names."""
    for path in dict.fromkeys(targets.values()):
        members = {name: arrays[name] for name, target in targets.items() if target == path}
        try:
            _write(path, members)
        except OSError as error:
            refuse("output", f"{path} cannot be written: {os_reason(error)}")


def _write(path: Path, members: Mapping[str, NDArray[Any]]) -> None:
    first = next(iter(members.values()))
    if path.suffix == ".npz":
        np.savez(path, **members)  # type: ignore[arg-type, unused-ignore] # numpy 2.1 adds allow_pickle
    elif path.suffix == ".csv":
        rows = _rows(first)
        np.savetxt(path, rows, delimiter=",", fmt=[_COMPLEX if np.iscomplexobj(rows) else _REAL] * rows.shape[1])
    elif path.suffix == ".mtx":
        _matrix_market(path, "output").mmwrite(path, _rows(first), precision=17)
    elif path == STANDARD:
        np.save(sys.stdout.buffer, first)
    else:
        with path.open("wb") as file:
            np.save(file, first)


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    """The array as rows and columns: a vector is one column."""
    return array.reshape(-1, 1) if array.ndim < _MATRIX else array


def os_reason(error: OSError) -> str:
    """The operating system's reason, in lower case."""
    return (error.strerror or str(error)).lower()


def refuse(kind: str, detail: str) -> NoReturn:
    """Ends the command for an unusable input or output."""
    fail(f"unusable {kind}", detail, exit_code=Exit.UNUSABLE)
