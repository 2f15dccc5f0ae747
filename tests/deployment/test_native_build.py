"""The kernels in C are compiled where there is a compiler, and missed by nobody where there is none."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = Path("kernels", "matfn_kernels", "linalg", "native")

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")

KERNELS = """
#define NAMED_(variant) table_##variant
#define NAMED(variant) NAMED_(variant)
int NAMED(VARIANT) = 1;
"""
DISPATCH = """
extern int table_baseline;
#ifdef __x86_64__
extern int table_avx2, table_avx512;
#else
#define table_avx2 1
#define table_avx512 1
#endif
__attribute__((visibility("default"))) int tables(void) { return table_baseline + table_avx2 + table_avx512; }
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose kernels take no time to compile, and which has an old library."""
    shutil.copy(ROOT / "hatch_build.py", tmp_path)
    (tmp_path / NATIVE).mkdir(parents=True)
    (tmp_path / NATIVE / "kernels.c").write_text(KERNELS)
    (tmp_path / NATIVE / "dispatch.c").write_text(DISPATCH)
    for name in ("arena", "contract", "half", "lapack", "lockstep", "parts", "random"):
        (tmp_path / NATIVE / f"{name}.c").write_text(f"extern int {name};\n")
    (tmp_path / NATIVE / "libmatfn_native.so").write_text("an old library")
    return tmp_path


def compiled(tree: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What compiling in this tree says."""
    command = [sys.executable, "hatch_build.py", *options]
    environment = os.environ | variables
    return subprocess.run(command, cwd=tree, env=environment, check=False, capture_output=True, text=True)


@needs_compiler
def test_library_has_every_variant(tree: Path) -> None:
    """The library loads, and what chooses among the variants finds all that this processor's kind has."""
    done = compiled(tree)

    assert (done.returncode, done.stderr) == (0, "")
    assert ctypes.CDLL(str(tree / NATIVE / "libmatfn_native.so")).tables() == 3


@needs_compiler
@pytest.mark.parametrize(
    "source", ["int lacks_a_semicolon", "extern int missing; int *found(void) { return &missing; }"]
)
def test_broken_source_leaves_no_library(tree: Path, source: str) -> None:
    """What does not compile, or would not load, is told, and an older library is not mistaken for it."""
    (tree / NATIVE / "dispatch.c").write_text(source)

    done = compiled(tree)

    assert done.returncode == 0
    assert "not built" in done.stderr
    assert not (tree / NATIVE / "libmatfn_native.so").exists()


def test_missing_compiler_is_told(tree: Path) -> None:
    """Without a compiler one line says so, and it is no failure."""
    done = compiled(tree, CC="/nonexistent")

    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "the native kernels are not built: CC=/nonexistent is no command here" in done.stderr


@needs_compiler
def test_check_fails_on_a_warning(tree: Path) -> None:
    """Under --check a warning is an error, and the tree's library stays as it is."""
    (tree / NATIVE / "dispatch.c").write_text("static int unused;\n" + DISPATCH)

    done = compiled(tree, "--check")

    assert done.returncode == 1
    assert "unused" in done.stderr
    assert (tree / NATIVE / "libmatfn_native.so").read_text() == "an old library"


def test_wheel_without_a_compiler_is_pure(tmp_path: Path) -> None:
    """The wheel is built all the same, for every platform, says what it lacks and takes no library from the tree."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    environment = os.environ | {"CC": "/nonexistent"}

    done = subprocess.run(build, env=environment, check=True, capture_output=True, text=True)

    (wheel,) = tmp_path.glob("*-py3-none-any.whl")
    assert "the native kernels are not built" in done.stdout + done.stderr
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
