"""Compiles the CPU kernels in C to a shared library, which ctypes loads, so that one wheel serves every Python.

hatchling calls this for its wheels. `python hatch_build.py` compiles the library beside its sources, where an editable
installation finds it; with `--check` warnings are errors and nothing is kept. Where no library can be had, torch
computes everything.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

SOURCES: Final = Path(__file__).parent / "kernels" / "matfn_kernels" / "linalg" / "native"
LIBRARY: Final = "libmatfn_native.so"

_FLAGS: Final = (
    *("-O3", "-std=gnu11", "-fPIC", "-fvisibility=hidden"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
_WARNINGS: Final = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
_VARIANTS: Final = {
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"),
    "avx2": ("-mavx2", "-mfma"),
    "baseline": (),
}
_AMX: Final = (*_VARIANTS["avx512"], "-mavx512bf16", "-mamx-tile", "-mamx-bf16")
"""For products of bf16 numbers, which a library by an older compiler lacks."""
_OF_VARIANTS: Final = {"kernels": (), "lockstep": ("-ffp-contract=off",)}
"""What is compiled for each variant; vectors of all widths must compute alike, so the compiler fuses nothing there."""


class NotBuilt(Exception):  # noqa: N818 - the compiler's fault, or this machine's
    """Why there is no library, in words."""

    def __str__(self) -> str:
        return f"the native kernels are not built: {self.args[0]}. All works by torch, small matrices take longer"


def build(library: Path, *flags: str) -> None:
    """Compiles the library and loads it; where that fails none is left, not even an older one."""
    library.unlink(missing_ok=True)
    compile_library(library, *flags)
    try:
        ctypes.CDLL(str(library))  # a linker accepts a library that lacks symbols
    except OSError as error:
        library.unlink()
        raise NotBuilt(str(error)) from error


def compile_library(library: Path, *flags: str) -> None:
    """Compiles and links the library."""
    compiler = _compiler()
    with TemporaryDirectory() as folder, ThreadPoolExecutor() as threads:
        units = _units(compiler)
        objects = [str(Path(folder, f"{name}.o")) for name in units]
        commands = [
            [*compiler, *_FLAGS, *flags, *unit, "-c", "-o", target]
            for unit, target in zip(units.values(), objects, strict=True)
        ]
        list(threads.map(_run, commands))
        _run([*compiler, "-shared", *flags, "-o", str(library), *objects, "-lm", "-lpthread"])


def _compiler() -> list[str]:
    named = os.environ.get("CC")
    candidates = [shlex.split(named)] if named else [["cc"], ["gcc"], ["clang"]]
    for command in candidates:
        if shutil.which(command[0]):
            return command
    raise NotBuilt(f"CC={named} is no command here" if named else "there is no C compiler (cc, gcc, clang)")


def _units(compiler: list[str]) -> dict[str, list[str]]:
    """What is compiled, by the object's name: the kernels once for each variant, and what chooses among them."""
    is_x86 = "__x86_64__" in _run([*compiler, "-dM", "-E", "-x", "c", os.devnull])
    variants = _VARIANTS if is_x86 else {"baseline": ()}
    units = {
        f"{unit}-{name}": [f"-DVARIANT={name}", *flags, *more, str(SOURCES / f"{unit}.c")]
        for unit, more in _OF_VARIANTS.items()
        for name, flags in variants.items()
    }
    dispatch = str(SOURCES / "dispatch.c")
    if is_x86 and _knows(compiler, _AMX):
        units |= {"half": [*_AMX, str(SOURCES / "half.c")], "dispatch": ["-DWITH_AMX", dispatch]}
    else:
        units["dispatch"] = [dispatch]
    return units | {name: [str(SOURCES / f"{name}.c")] for name in ("arena", "contract", "lapack", "parts", "random")}


def _knows(compiler: list[str], flags: tuple[str, ...]) -> bool:
    """Whether the compiler has these instruction sets."""
    command = [*compiler, *flags, "-E", "-x", "c", os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NotBuilt(f"{command[0]} failed, by the messages above")
    return done.stdout


class NativeKernels(BuildHookInterface[Any]):
    """Puts the library into the wheel, whose tag names the platform then; without it the wheel is a pure one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles the library, for an editable installation beside its sources."""
        self._folder = TemporaryDirectory()
        editable = version == "editable"
        library = (SOURCES if editable else Path(self._folder.name)) / LIBRARY
        try:
            build(library)
        except NotBuilt as reason:
            self.app.display_warning(f"matfn: {reason}")
            return
        if not editable:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"
            build_data["force_include"][str(library)] = f"matfn_kernels/linalg/native/{LIBRARY}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what the wheel has taken."""
        del version, build_data, artifact_path
        self._folder.cleanup()


def _platform() -> str:
    """The platform without a promise about the C library's age, which nobody has looked at."""
    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))


def main() -> int:
    """Compiles; fails only under --check, since all works without the library."""
    checking = sys.argv[1:] == ["--check"]
    try:
        if checking:
            with TemporaryDirectory() as folder:
                build(Path(folder, LIBRARY), *_WARNINGS)
        else:
            build(SOURCES / LIBRARY)
    except NotBuilt as reason:
        print(f"matfn: {reason}", file=sys.stderr)
        return int(checking)
    return 0


if __name__ == "__main__":
    sys.exit(main())
