"""Tables of results say what was measured, by which command and on which machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from provenance import LINE, provenance

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
TABLES = sorted((BENCHMARKS / "results").glob("*.md"))
OTHERS = ("hostile", "overload", "random_faults", "scaling", "soak", "soap_losses")
WRITERS = [*BENCHMARKS.glob("bench_*.py"), *(BENCHMARKS / f"{name}.py" for name in OTHERS)]
WRITERS += [ROOT / "scripts" / "compile_kernels.py"]


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.name)
def test_table_says_where_it_comes_from(table: Path) -> None:
    """One line of each results file names commit, command and machine."""
    assert len(re.findall(LINE, table.read_text(), re.MULTILINE)) == 1


@pytest.mark.parametrize("writer", WRITERS, ids=lambda path: path.name)
def test_benchmark_writes_the_line(writer: Path) -> None:
    """Each script that makes a table writes that line."""
    assert "provenance(" in writer.read_text()


@pytest.mark.parametrize(("machine", "command"), [(None, None), ("NVIDIA H100", "make ray")])
def test_line_is_as_the_tables_want_it(monkeypatch: pytest.MonkeyPatch, machine: str, command: str) -> None:
    """The line that a script writes is one that a table may have."""
    monkeypatch.setattr("provenance.commit", lambda: "0123abcde-dirty")

    line = provenance(machine, command)

    assert re.fullmatch(LINE, line)
    assert all(given is None or given in line for given in (machine, command))
