"""The kind of this machine, by which a shipped profile is chosen."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import torch

from matfn_kernels.linalg.native.library import variant

__all__ = ["Machine", "described", "is_intel", "processor", "this_machine"]

_CPUINFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine.

    Attributes:
        intel: whether the processor is Intel's; MKL gives others the kernels of an older instruction set.
        instructions: of the kernels in C: amx, avx512, avx2 or baseline; none without them.
        gpu: the GPU's name if one computes.
    """

    intel: bool
    instructions: str
    gpu: str | None = None


def this_machine(device: str = "cpu") -> Machine:
    """The kind of this machine when it computes on a device such as cpu or cuda:0."""
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return Machine(is_intel(processor()), variant(), gpu)


def is_intel(cpuinfo: str) -> bool:
    """Whether /proc/cpuinfo is that of a processor by Intel."""
    return "GenuineIntel" in cpuinfo


@cache
def processor() -> str:
    """/proc/cpuinfo, read once; empty on systems without it."""
    try:
        return _CPUINFO.read_text()
    except OSError:
        return ""


def described(device: str = "cpu") -> str:
    """The processor or GPU, the number of cores and torch's version, in words."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    lines = processor().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(models, platform.machine())}, {os.cpu_count()} cores, torch {torch.__version__}"
