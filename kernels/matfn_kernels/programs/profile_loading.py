"""Choice and loading of the profile: the one that ships for this kind of machine, or the one in a given file.

The choice depends neither on time nor on the environment, so that restarts and replicas of one version on one kind of
machine make the same plans. A kind that was not measured has the profile of the nearest one; each file says how its
rows were found. The names are `intel` or `other` with the instruction set of the kernels in C, or `torch` without these
kernels; `nvidia-h100` serves every GPU, as the only one that has been measured.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.native.machine import Machine, this_machine
from matfn_kernels.programs.profile import Profile

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_profile", "name_for", "names", "read_profile", "shipped"]

_FOLDER: Final = "profiles"
_GPU: Final = "nvidia-h100"
"""The profile of every GPU: no second one has been measured."""


def load_profile(device: str = "cpu", path: Path | None = None) -> Profile:
    """The profile for a device such as cpu or cuda:0: that of the file, or the one that ships for the machine's kind.

    Raises:
        ValueError: if the file cannot be read or is not such a profile, in a sentence that goes on after its path.
    """
    return shipped(name_for(this_machine(device))) if path is None else read_profile(path, device)


def name_for(machine: Machine) -> str:
    """The name of the profile that ships for a kind of machine."""
    if machine.gpu is not None:
        return _GPU
    return f"{'intel' if machine.intel else 'other'}-{machine.instructions.replace('none', 'torch')}"


def names() -> list[str]:
    """The names of all profiles that ship."""
    return sorted(entry.name.removesuffix(".json") for entry in files(__package__).joinpath(_FOLDER).iterdir())


@cache
def shipped(name: str) -> Profile:
    """The profile of that name, of those that ship."""
    return Profile.parse(files(__package__).joinpath(_FOLDER, f"{name}.json").read_text())


def read_profile(path: Path, device: str) -> Profile:
    """The profile in a file, which must be one of the device's kind.

    Raises:
        ValueError: if it cannot be read or is not such a profile, in a sentence that goes on after its path.
    """
    try:
        profile = Profile.parse(path.read_text())
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    except ValueError as error:
        raise ValueError(f"it is no profile: {error}; matfn calibrate writes one") from None
    if profile.device != device.partition(":")[0]:
        raise ValueError(f"it is a profile of {profile.device}, and {device} computes here")
    if not native.is_built() and any(operation.startswith("native") for operation, *_ in profile.seconds):
        raise ValueError("it prices the kernels in C, which are not built here")
    if not native.multiplies_bf16() and any(operation == "native_half" for operation, *_ in profile.seconds):
        raise ValueError("it prices products in bf16, which the kernels in C have not on this processor")
    return profile
