"""A library is used only where its structures, numbers and findings are those that Python calls it with."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from matfn_kernels.linalg.native import library as module
from matfn_kernels.linalg.native.library import is_built, library

SOURCES = Path(module.__file__).parent
COMPILER = shlex.split(os.environ.get("CC", "cc"))
CHANGES = [
    ("int64_t items, order;\n    int64_t k, s, r;", "int64_t order, items;\n    int64_t k, s, r;", "roots_plan"),
    ("double spacing;", "int64_t spacing;", "triangles_plan.spacing"),
    ("int64_t item, row;", "int64_t row, item;", "products_plan.x"),
    ("char *exists;", "char *exists;\n    int64_t more;", "cholesky_plan"),
    ("double alpha, beta;", "double beta, alpha;", "products_plan.alpha"),
    ("    POLAR_GAP,\n    POLAR_STEPS,", "    POLAR_STEPS,\n    POLAR_GAP,", "POLAR_FINDINGS.gap"),
    ("    ROOT_FINDINGS", "    MORE,\n    ROOT_FINDINGS", "ROOT_FINDINGS"),
    ("IMAGE_SKEW, IMAGE", "IMAGE_SKEW, MORE, IMAGE", "IMAGE_FINDINGS"),
    ("#define PROBES 4", "#define PROBES 8", "PROBES"),
    ("DONE, OUT_OF_MEMORY", "DONE, MORE, OUT_OF_MEMORY", "OUT_OF_MEMORY"),
]

pytestmark = pytest.mark.skipif(not shutil.which(COMPILER[0]), reason="no C compiler")


def _use_contract_of(folder: Path, monkeypatch: pytest.MonkeyPatch, old: str = "", new: str = "") -> None:
    """Takes a library that holds nothing but the contract, compiled after a change of native.h."""
    header = (SOURCES / "native.h").read_text()
    assert not old or header.count(old) == 1
    (folder / "native.h").write_text(header.replace(old, new) if old else header)
    shutil.copy(SOURCES / "contract.c", folder)
    compiled = folder / "contract.so"
    subprocess.run([*COMPILER, "-shared", "-fPIC", "-o", compiled, folder / "contract.c"], check=True)
    monkeypatch.setattr(module, "_PATH", compiled)
    monkeypatch.setattr(module, "library", library.__wrapped__)


def test_library_of_the_same_version_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The contract of native.h as it stands is the one that Python has."""
    _use_contract_of(tmp_path, monkeypatch)

    assert is_built()


@pytest.mark.parametrize(("old", "new", "term"), CHANGES, ids=[change[2] for change in CHANGES])
def test_changed_field_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str, new: str, term: str
) -> None:
    """A field that is moved, added, of another type or of another number makes the library one of another version."""
    _use_contract_of(tmp_path, monkeypatch, old, new)

    with pytest.warns(RuntimeWarning, match=f"contract.so is not used.* it is of another version, by {term}"):
        assert not is_built()


def test_no_macro_hides_a_name_of_the_contract() -> None:
    """A macro of one source that is named as a number of native.h would replace it there, unseen by the contract."""
    named = set(re.findall(r"\b[A-Z][A-Z_0-9]+\b", (SOURCES / "native.h").read_text()))
    sources = [path.read_text() for kind in ("*.c", "*.inc") for path in SOURCES.glob(kind)]
    macros = set(re.findall(r"^\s*#define (\w+)", "\n".join(sources), re.MULTILINE))

    assert not named & macros
