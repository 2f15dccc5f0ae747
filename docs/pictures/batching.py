"""Draws docs/pictures/batching.png from benchmarks/results/callers.md: throughput and batches by callers."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
ROW = re.compile(r"^\| (\d+) \| (\d+) \| (\d+) .*\| ([\d.]+) \([^|]*\|$", re.MULTILINE)


def main() -> None:
    """Calls per second on the left, matrices in a batch on the right."""
    mpl.use("Agg")
    table = (HERE.parents[1] / "benchmarks" / "results" / "callers.md").read_text()
    rows = [
        (int(order), int(callers), float(calls), float(batch)) for order, callers, calls, batch in ROW.findall(table)
    ]

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for order in sorted({row[0] for row in rows}):
        callers, calls, batches = zip(*(row[1:] for row in rows if row[0] == order), strict=True)
        left.plot(callers, calls, "o-", label=f"order {order}")
        right.plot(callers, batches, "o-", label=f"order {order}")
    left.set(title="calls per second", xlabel="callers", xscale="log", yscale="log")
    right.set(title="matrices in a batch, mean", xlabel="callers", xscale="log", yscale="log")
    for axes in (left, right):
        axes.set_xticks([1, 8, 32], ["1", "8", "32"])
        axes.minorticks_off()
    right.legend(fontsize=7)
    figure.savefig(HERE / "batching.png", dpi=110)


if __name__ == "__main__":
    main()
