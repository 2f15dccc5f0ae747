"""What a computation holds besides its inputs and answers: the process's peak while it evaluates, by /proc (Linux).

Every case runs in a process of its own, after a first matrix has loaded what there is to load.

    python benchmarks/bench_memory.py > benchmarks/results/memory.md
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import torch

from matfn_kernels import Call, Limits, batch_of, evaluate, load_profile, make_plan, parse_call
from provenance import provenance

_SELF: Final = Path("/proc/self")
_CASES: Final = (
    ("inv_root", 64, 1024),
    ("inv_root", 256, 64),
    ("frechet_distance", 256, 16),
    ("inv_root", 768, 1),
    ("sqrt_pair", 768, 1),
    ("msign", 768, 1),
    ("frechet_distance", 768, 1),
    ("mcsgn", 768, 1),
)


def _call(function: str, order: int, items: int) -> Call:
    g = torch.randn(items, order, order, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, mean = g @ g.mT / order + torch.eye(order), torch.zeros(items, order, dtype=torch.float64)
    inputs = {
        "frechet_distance": {"mu1": mean, "s1": a, "mu2": mean, "s2": a},
        "msign": {"m": a},
    }.get(function, {"a": a})
    return parse_call(function, inputs, {"r": 4} if function == "inv_root" else {}, {}, Limits())


def _peak() -> int:
    lines = (_SELF / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _row(function: str, order: int, items: int) -> str:
    """One case, measured in this process."""
    torch.set_num_threads(1)
    plan = make_plan(_call(function, order, 1), load_profile())
    evaluate(plan.program, batch_of(_call(function, order, 1)), plan.backends)
    batch = batch_of(_call(function, order, items))
    ctypes.CDLL(None).malloc_trim(0)
    (_SELF / "clear_refs").write_text("5")  # the peak begins anew
    before = _peak()
    answers = sum(output.nbytes for output in evaluate(plan.program, batch, plan.backends).outputs)
    held = _peak() - before - answers
    matrix = order * order * 8
    cells = (plan.program.method, before / 1e6, answers / 1e6, held / 1e6, held / matrix, held / matrix / items)
    figures = " | ".join(f"{cell:.3g}" if isinstance(cell, float) else cell for cell in cells)
    return f"| {function} | {order} | {items} | {figures} |"


def main() -> None:
    """Prints the table, or one row of it."""
    if len(sys.argv) > 1:
        print(_row(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
        return
    print(f"{provenance()}\n")
    print(f"float64 on one thread, torch {torch.__version__}; one run each\n")
    print("| function | order | matrices | method | MB before | MB answers | MB besides | in n x n | a matrix |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for case in _CASES:
        command = [sys.executable, __file__, *map(str, case)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})  # noqa: S603


if __name__ == "__main__":
    main()
