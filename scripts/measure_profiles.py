"""Measures the CPU profiles that ship, on one machine: the kernels in C and MKL held to each instruction set it has.

python scripts/measure_profiles.py          every set, the least of three runs for each row

A processor with less is imitated by one with more: `matfn_native_use` chooses the kernels in C, and environment
variables hold MKL, oneDNN and torch to the set. Each profile is measured in a process of its own. Those of other makers
that were never measured are put together anew: torch's operations as on an AMD EPYC, the kernels in C as on Intel's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from matfn.local import calibrated
from matfn_kernels import Backends, Profile
from matfn_kernels.linalg.native.library import library
from matfn_kernels.linalg.native.machine import this_machine
from matfn_service.serve import ENVIRONMENT

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "kernels" / "matfn_kernels" / "programs" / "profiles"
EPYC: Final = ROOT / "benchmarks" / "results" / "scaling_inputs.json"
BORROWED: Final = "Not measured as a whole: "
OPENBLAS: Final = tuple(
    ("openblas", routine, dtype, order)
    for routine, orders in (("products", (128, 128)), ("cholesky", (32, 32)), ("eigh", (512, 256)))
    for dtype, order in zip(("float32", "float64"), orders, strict=True)
)
"""Least orders from which OpenBLAS is the faster on an AMD EPYC 9575F with AVX-512, torch 2.13 and scipy 1.17."""
WIDE: Final = Backends((("onednn", "products", "float32", 256), *OPENBLAS))
"""There oneDNN's products have 230 to 250 GFLOP/s from order 256 on, MKL's 110."""
RUNS: Final = 3
HELD: Final = {
    "amx": {},
    "avx512": {},
    "avx2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "baseline": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "DNNL_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
}


def measure(instructions: str) -> None:
    """Writes the profile of an instruction set that this process is held to; of the widest, that of torch alone too."""
    machine, found = this_machine(), library()
    if found is None or found.matfn_native_use(instructions.encode()):
        sys.exit(f"no kernels in C for {instructions} here")
    maker = "intel" if machine.intel else "other"
    held = " ".join(f"{name}={value}" for name, value in HELD[instructions].items())
    profile = least([calibrated(f"{maker}-{instructions}", "cpu") for _ in range(RUNS)])
    how = f"{profile.measured}, least of {RUNS} runs"
    write(replace(profile, measured=f"{how}, held to {instructions} by {held}" if held else how))
    if instructions == machine.instructions:
        rows = tuple(
            row for row in profile.seconds if row[0] not in {"native", "native_triangle", "native_half", "spectral"}
        )
        write(replace(profile, name=f"{maker}-torch", seconds=rows, measured=f"{how}, without the kernels in C"))


def borrow() -> None:
    """Writes the profiles of other makers' processors that say that they were not measured."""
    rows = json.loads(EPYC.read_text())["calibration"]["seconds"]
    epyc = tuple(
        (operation, precision, order, float(f"{seconds:.4g}")) for operation, precision, order, seconds in rows
    )
    found = f"{BORROWED}gemm, eigh and svd are those of an AMD EPYC with AVX-512 in benchmarks/results/{EPYC.name}"
    baseline = read("intel-baseline")
    made = [Profile("cpu", epyc, "other-torch", f"{found}; no kernels in C", Backends(WIDE.rows[:1]))]
    how = f"{BORROWED}as {baseline.name}: {baseline.measured}"
    made.append(replace(baseline, name="other-baseline", measured=how, backends=Backends(OPENBLAS)))
    for profile in map(read, ("intel-amx", "intel-avx512", "intel-avx2")):
        native = tuple(row for row in profile.seconds if row[0].startswith("native"))
        name = profile.name.replace("intel", "other")
        how = f"{found}; kernels in C as {profile.name}: {profile.measured}"
        backends = WIDE if name in {"other-amx", "other-avx512"} else Backends(OPENBLAS)
        made.append(Profile("cpu", epyc + native, name, how, backends))
    for profile in made:
        if read(profile.name).measured.startswith(BORROWED):
            write(profile)


def read(name: str) -> Profile:
    """A profile that ships."""
    return Profile.parse((FOLDER / f"{name}.json").read_text())


def least(profiles: list[Profile]) -> Profile:
    """The least seconds of each row: what the machine can do undisturbed."""
    rows = zip(*(profile.seconds for profile in profiles), strict=True)
    return replace(profiles[0], seconds=tuple(min(row, key=lambda found: found[3]) for row in rows))


def write(profile: Profile) -> None:
    """Writes a profile to where it ships from."""
    (FOLDER / f"{profile.name}.json").write_text(profile.text())
    print(f"wrote {profile.label}")


def main() -> int:
    """Measures one instruction set if it is named, else all of them one after the other, and borrows from them."""
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return 0
    codes = [apart(name, held) for name, held in HELD.items()]
    borrow()
    return max(codes)


def apart(name: str, held: dict[str, str]) -> int:
    """The exit code of a process that measures one instruction set, under the environment that workers have."""
    environment = os.environ | ENVIRONMENT | held
    return subprocess.run([sys.executable, __file__, name], check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
