"""Measures the CPU profiles that ship, on one machine: the kernels in C and MKL held to each instruction set it has.

python scripts/measure_profiles.py          every set, the least of three runs for each row

A processor with less is imitated by one with more: `matfn_native_use` chooses the kernels in C, and environment
variables hold MKL, oneDNN and torch to the set. Each profile is measured in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from matfn.local import calibrated
from matfn_kernels.machine import this_machine
from matfn_kernels.native.library import library

if TYPE_CHECKING:
    from matfn_kernels.calibration import Profile

FOLDER: Final = Path(__file__).resolve().parents[1] / "kernels" / "matfn_kernels" / "profiles"
RUNS: Final = 3
HELD: Final = {
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
        rows = tuple(row for row in profile.seconds if not row[0].startswith("native"))
        write(replace(profile, name=f"{maker}-torch", seconds=rows, measured=f"{how}, without the kernels in C"))


def least(profiles: list[Profile]) -> Profile:
    """The least seconds of each row: what the machine can do undisturbed."""
    rows = zip(*(profile.seconds for profile in profiles), strict=True)
    return replace(profiles[0], seconds=tuple(min(row, key=lambda found: found[3]) for row in rows))


def write(profile: Profile) -> None:
    """Writes a profile to where it ships from."""
    (FOLDER / f"{profile.name}.json").write_text(profile.text())
    print(f"wrote {profile.label}")


def main() -> int:
    """Measures one instruction set if it is named, else all of them one after the other."""
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return 0
    command = [sys.executable, __file__]
    return max(
        subprocess.run([*command, name], check=False, env=os.environ | held).returncode for name, held in HELD.items()
    )


if __name__ == "__main__":
    sys.exit(main())
