"""Runs the tests that compute in environments that stand for other machines, and tabulates what passed.

A library for linear algebra chooses its code by the processor, the number of threads and what is installed, so that
rounding differs from machine to machine. Here each choice is forced in a process of its own.

    python scripts/test_machines.py                  # all of them, about an hour on two cores
    python scripts/test_machines.py --short          # the most telling ones and tests, as `make test` runs them
    python scripts/test_machines.py --only NAME      # one or several
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
TESTS: Final = ("tests/kernels", "tests/client/test_local.py", "tests/client/test_cli.py")
IGNORED: Final = "tests/kernels/test_triton.py"
"""It starts a process of its own, in which no BLAS computes."""
SHORT_TESTS: Final = tuple(
    f"tests/kernels/test_{name}.py"
    for name in (
        *("accuracy", "batch_composition", "invariant", "never_silently_wrong", "domain"),
        *("native_low_rank", "native_polar"),
    )
)
PREFIXES: Final = ("OMP_", "MKL_", "OPENBLAS_", "GOTO_", "ATEN_", "KMP_", "DNNL_", "ONEDNN_", "CC")
"""Variables of this shell that no environment inherits."""
_COUNTS: Final = re.compile(r"(\d+) (passed|failed|error|skipped)")
_BY: Final = re.compile(r"^computed with (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Machine:
    """An environment.

    Attributes:
        name: in the table.
        variables: of the environment.
        options: of pytest, see `tests/conftest.py`.
        needs: flags of /proc/cpuinfo without which it would stand for something else.
        short: whether it is among the most telling ones.
    """

    name: str
    variables: dict[str, str]
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    short: bool = False


_AVX2: Final = ("avx2", "fma")
_AVX512: Final = ("avx512f", "avx512dq", "avx512bw", "avx512vl")
_ALONE: Final = {"OPENBLAS_NUM_THREADS": "1"}


def _threads(count: int) -> dict[str, str]:
    """What gives every library so many threads, whatever the number of cores."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**dict.fromkeys(names, str(count)), "MKL_DYNAMIC": "FALSE"}


MACHINES: Final = (
    Machine("as it is", {}),
    *(Machine(f"threads {count}", _threads(count)) for count in (1, 2, 3, 4)),
    Machine("mkl avx2", {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, needs=_AVX2),
    Machine("mkl sse4.2", {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}),
    Machine("mkl cbwr", {"MKL_CBWR": "COMPATIBLE"}),
    *(
        Machine(f"openblas {core.lower()}", {**_ALONE, "OPENBLAS_CORETYPE": core}, ("--blas=openblas",), needs)
        for core, needs in (("SkylakeX", _AVX512), ("Haswell", _AVX2), ("Zen", _AVX2), ("Prescott", ()))
    ),
    Machine("torch avx2", {"ATEN_CPU_CAPABILITY": "avx2"}, needs=_AVX2),
    Machine("torch default", {"ATEN_CPU_CAPABILITY": "default"}),
    Machine("kernels amx", {}, ("--kernels=amx",), (*_AVX512, "avx512_bf16", "amx_bf16")),
    Machine("kernels avx512", {}, ("--kernels=avx512",), _AVX512),
    Machine("kernels avx2", {}, ("--kernels=avx2",), _AVX2),
    Machine("kernels baseline", {}, ("--kernels=baseline",)),
    Machine("kernels none", {}, ("--kernels=none",)),
    *(Machine(f"blas {name}", _ALONE, (f"--blas={name}",)) for name in ("mkl", "openblas", "onednn")),
    Machine(
        "zen 2",
        {
            **_threads(1),
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "OPENBLAS_CORETYPE": "Zen",
            "ATEN_CPU_CAPABILITY": "avx2",
        },
        ("--kernels=avx2", "--blas=openblas"),
        _AVX2,
        short=True,
    ),
    Machine(
        "old and bare",
        {
            **_threads(4),
            "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
            "OPENBLAS_CORETYPE": "Prescott",
            "ATEN_CPU_CAPABILITY": "default",
        },
        ("--kernels=none", "--blas=mkl"),
        short=True,
    ),
    Machine("reproducible", {**_threads(3), "MKL_CBWR": "COMPATIBLE"}, ("--blas=onednn",), short=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the tests in an environment.

    Attributes:
        passed: tests that did.
        failed: tests that did not, a process that died among them.
        seconds: all together.
        by: what computed, by the process's own account.
        report: what pytest printed.
    """

    passed: int
    failed: int
    seconds: float
    by: str
    report: str


def lacking(machine: Machine) -> list[str]:
    """Instructions without which this processor cannot stand for the machine."""
    found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return sorted(set(machine.needs) - set(found[1].split() if found else ()))


def outcome(machine: Machine, arguments: tuple[str, ...]) -> Outcome:
    """Runs pytest as on that machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--kernels=own", *machine.options]
    start = time.monotonic()
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env=kept | machine.variables,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seconds = time.monotonic() - start
    counts = {kind: int(count) for count, kind in _COUNTS.findall(done.stdout.strip().rpartition("\n")[2])}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    by = _BY.search(done.stdout)
    return Outcome(
        counts.get("passed", 0), failed or int(done.returncode != 0), seconds, by[1] if by else "", done.stdout
    )


def main() -> int:
    """Prints the table; 1 if anything failed."""
    names = [machine.name for machine in MACHINES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--short", action="store_true", help="the most telling environments and tests")
    asked = parser.parse_args()
    chosen = [one for one in MACHINES if (one.name in asked.only if asked.only else one.short or not asked.short)]
    arguments = ("-x", *SHORT_TESTS) if asked.short else ("--every-case", f"--ignore={IGNORED}", *TESTS)
    failures = 0
    print(f"{'environment':18} {'passed':>6} {'failed':>6} {'seconds':>7}  computed with", flush=True)
    for machine in chosen:
        if missing := lacking(machine):
            print(f"{machine.name:18} not run: this processor has no {', '.join(missing)}", flush=True)
            continue
        found = outcome(machine, arguments)
        failures += found.failed
        row = f"{found.passed:6} {found.failed:6} {found.seconds:7.0f}  {found.by}"
        print(f"{machine.name:18} {row}", flush=True)
        if found.failed:
            print(
                f"--- {machine.name}: {machine.variables} {machine.options}\n{found.report}",
                file=sys.stderr,
                flush=True,
            )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
