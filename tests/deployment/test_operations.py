"""The numbers in docs/operations.md that follow from the code, or from a measured table, are those."""

from __future__ import annotations

import re
from math import isqrt
from pathlib import Path
from typing import Final

import pytest

from matfn_kernels.running import evaluation
from matfn_service import computing, dispatcher, http_protocol, memory, serve
from matfn_service.settings import Settings

ROOT: Final = Path(__file__).parents[2]
MANUAL: Final = " ".join((ROOT / "docs" / "operations.md").read_text().split())
MEASURED: Final = re.findall(
    r"^\| (\w+) \| 768 \| 1 \|.*\| (\S+) \|$", (ROOT / "benchmarks/results/memory.md").read_text(), re.MULTILINE
)
TILE: Final = evaluation._TILE_ELEMENTS
NATIVE: Final = evaluation._NATIVE_TILES
DEFAULTS: Final = Settings.model_fields

FACTS: Final = {
    "tiles": f"tiles of at most {TILE:,} numbers an input ({TILE // 64**2} matrices of order 64, one of order"
    f" {isqrt(TILE)} or more), the kernels in C {NATIVE} times as many",
    "formula": f"x 8 x max(n^2, {TILE}) bytes",
    "order": f"`MATFN_MAX_ORDER` ({DEFAULTS['max_order'].default}) is the setting to lower first",
    "drain": f"within `MATFN_DRAIN_SECONDS` ({DEFAULTS['drain_seconds'].default:g})",
    "idle": f"for {memory.IDLE_SECONDS:g} to {2 * memory.IDLE_SECONDS:g} seconds and more than"
    f" {memory._WORTH // 2**20} MiB",
    "niceness": f"Workers run at `nice` {computing._NICENESS}",
    "threads": f"`OPENBLAS_NUM_THREADS={serve.ENVIRONMENT['OPENBLAS_NUM_THREADS']}`",
    "least batch": f"more than {dispatcher._LEAST_SECONDS * 1e3:g} ms of work, it takes at most its share",
    "long jobs": "by half or more" if dispatcher._LONG == 0.5 else "",
    "head": f"may take {http_protocol.MAX_HEAD_BYTES // 2**10} KiB together",
    "measured": ", ".join(f"`{name}` {float(ratio):.2g}" for name, ratio in MEASURED),
}


@pytest.mark.parametrize("name", FACTS)
def test_number_is_that_of_the_code(name: str) -> None:
    """The manual has the sentence with the number that is in the code now."""
    assert FACTS[name]
    assert FACTS[name] in MANUAL


def test_range_holds_what_was_measured() -> None:
    """The formula's factors are the least and the largest measured, in whole numbers."""
    ratios = [float(ratio) for _, ratio in MEASURED]

    assert f"+ ({int(min(ratios))} to {-int(-max(ratios) // 1)}) x 8 x max" in MANUAL


@pytest.mark.parametrize("function", ["inv_root", "frechet_distance"])
def test_single_matrices_follow_from_the_measured(function: str) -> None:
    """The table of single matrices is the measured ratio times their size."""
    ratio = float(dict(MEASURED)[function])
    megabytes = [ratio * 8 * order**2 / 1e6 for order in (512, 1024, 2048, 4096, 8192)]
    cells = [f"{size:.0f} MB" if size < 1000 else f"{size / 1e3:.1f} GB" for size in megabytes]

    assert f"| `{function}` | {' | '.join(cells)} |" in MANUAL
