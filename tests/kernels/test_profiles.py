"""The profiles that plans are made by: chosen by the kind of machine alone, and read strictly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from evaluating import parsed
from matfn_kernels.contract.functions import FUNCTIONS
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.backends import ALL_OPENBLAS
from matfn_kernels.linalg.native import machine
from matfn_kernels.linalg.native.machine import Machine, is_intel
from matfn_kernels.programs import calibration, profile_loading
from matfn_kernels.programs.profile import Profile
from matfn_kernels.programs.profile_loading import load_profile, name_for, read_profile
from matfn_kernels.running.plan import make_plan

if TYPE_CHECKING:
    from pathlib import Path

NAMES = profile_loading.names()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Machine(intel=True, instructions="amx"), "intel-amx"),
        (Machine(intel=True, instructions="avx512"), "intel-avx512"),
        (Machine(intel=True, instructions="avx2"), "intel-avx2"),
        (Machine(intel=True, instructions="none"), "intel-torch"),
        (Machine(intel=False, instructions="baseline"), "other-baseline"),
        (Machine(intel=False, instructions="none"), "other-torch"),
        (Machine(intel=True, instructions="avx512", gpu="NVIDIA H100 80GB HBM3"), "nvidia-h100"),
        (Machine(intel=False, instructions="none", gpu="NVIDIA A100-SXM4-40GB"), "nvidia-h100"),
    ],
)
def test_kind_chooses_the_profile(kind: Machine, name: str) -> None:
    """Maker and instruction set, or the GPU, say which profile it is."""
    assert name_for(kind) == name


@pytest.mark.parametrize("intel", [True, False])
@pytest.mark.parametrize("variant", ["amx", "avx512", "avx2", "baseline", "none"])
def test_every_kind_has_a_profile(intel: bool, variant: str) -> None:
    """There is a file for whatever processor and library a machine may have."""
    assert name_for(Machine(intel, variant)) in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_shipped_profile_prices_every_call(name: str) -> None:
    """Each profile has its file's name, says where it comes from, and gives finite prices in both precisions."""
    profile = profile_loading.shipped(name)

    plans = [
        make_plan(parsed(function, {key: torch.eye(20, dtype=dtype)}, keywords), profile)
        for dtype in (torch.float32, torch.float64)
        for function, key, keywords in (("inv_root", "a", {"r": 4}), ("msign", "m", {}), ("tri_inv", "t", {}))
    ]

    assert profile.name == name
    assert profile.measured
    assert all(0 < plan.seconds < 1 for plan in plans)


@pytest.mark.parametrize(
    ("text", "intel"), [("vendor_id\t: GenuineIntel\n", True), ("AuthenticAMD", False), ("", False)]
)
def test_maker_is_read_from_the_system(text: str, intel: bool) -> None:
    """Whoever is not Intel is another."""
    assert is_intel(text) is intel


def test_processor_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's description is asked for once; where there is none it is empty."""
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    machine.processor.cache_clear()

    first = machine.processor()
    (tmp_path / "cpuinfo").write_text("GenuineIntel")

    assert first == machine.processor() == ""
    machine.processor.cache_clear()


def test_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells torch and MKL which instructions to use changes no plan."""
    before = load_profile()
    for name in ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_NUM_THREADS", "MATFN_CACHE_DIR"):
        monkeypatch.setenv(name, "default")

    assert load_profile() == before


def test_text_is_read_back(tmp_path: Path) -> None:
    """A profile that is written and read is the same one, hash and words included."""
    profile = Profile("cpu", Profile.nominal().seconds, "mine", "here", ALL_OPENBLAS)
    path = tmp_path / "any.json"
    path.write_text(profile.text())

    found = read_profile(path, "cpu")

    assert (found, found.measured, found.label) == (profile, "here", profile.label)


def test_measured_profile_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured prices every operation of this machine, and can be read back from its text."""
    monkeypatch.setattr(calibration, "_REPEATS", 1)

    profile = calibration.measure()

    assert Profile.parse(profile.text()) == profile
    assert any(row[0] == "native" for row in profile.seconds) == native.is_built()


def test_hash_is_of_what_plans_depend_on() -> None:
    """Rows in another order and another name have the same hash, another price or backend has not."""
    rows = Profile.nominal().seconds
    (operation, precision, order, seconds), *rest = rows

    hashes = [
        Profile("cpu", tuple(rows), "a").hash,
        Profile("cpu", tuple(reversed(rows)), "b").hash,
        Profile("cpu", ((operation, precision, order, 2 * seconds), *rest), "a").hash,
        Profile("cuda", tuple(rows), "a").hash,
        Profile("cpu", tuple(rows), "a", backends=ALL_OPENBLAS).hash,
    ]

    assert hashes[0] == hashes[1]
    assert len({*hashes}) == 4
    assert all(len(found) == 12 for found in hashes)


def _document(**changed: object) -> str:
    return json.dumps(json.loads(Profile("cpu", Profile.nominal().seconds, "mine", "here").text()) | changed)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is not JSON"),
        ("[]", "it must be a map"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "it has no 'device'"),
        (_document(name="a b"), "is no name"),
        (_document(seconds=[]), "no row of eigh in fp32"),
        (_document(seconds=[["gemm", "fp32", 16]]), "it must be a map whose seconds are rows"),
        (_document(seconds=[["gemm", "fp99", 16, 1.0]]), "prices no operation"),
        (_document(seconds=[["magic", "fp32", 16, 1.0]]), "prices no operation"),
        (_document(seconds=[["gemm", "fp32", 0, 1.0]]), "prices no operation"),
        (_document(seconds=[["gemm", "fp32", 16, float("nan")]]), "prices no operation"),
        (_document(seconds=[["gemm", "fp32", 16, 10**400]]), "prices no operation"),
        (_document(seconds=[["gemm", "fp32", True, 1.0]]), "prices no operation"),
        (_document(seconds=[["gemm", "fp32", 16, True]]), "prices no operation"),
        (_document(seconds=2 * [list(row) for row in Profile.nominal().seconds]), "twice"),
        (_document(backends=[["blis", "products", "float32", 64]]), "names no backend"),
        (_document(backends=[["onednn", "eigh", "float32", 64]]), "names no backend"),
        (_document(backends=[["openblas", "eigh", "float16", 64]]), "names no backend"),
        (_document(backends=[["openblas", "eigh", "float32", 0]]), "names no backend"),
        (_document(backends=[["openblas", "eigh", "float32"]]), "whose backends are rows"),
        (_document(backends=2 * [["openblas", "eigh", "float32", 64]]), "twice"),
        (_document(backends=3), "whose backends are rows"),
        (_document(device="cuda"), "it is a profile of cuda, and cpu computes here"),
    ],
)
def test_broken_profile_says_why(tmp_path: Path, text: str, reason: str) -> None:
    """Whatever is no profile of the device is refused in one sentence."""
    path = tmp_path / "profile.json"
    path.write_text(text)

    with pytest.raises(ValueError, match=reason):
        read_profile(path, "cpu")


@pytest.mark.parametrize("make", ["nothing", "folder", "bytes"])
def test_unreadable_profile_says_why(tmp_path: Path, make: str) -> None:
    """A missing file, a folder and a file that is no text are refused alike."""
    path = tmp_path / "profile.json"
    if make == "folder":
        path.mkdir()
    if make == "bytes":
        path.write_bytes(b"\xff\xfe\xff")

    with pytest.raises(ValueError, match=r"it cannot be read|it is not text"):
        read_profile(path, "cpu")


def test_catalogue_lists_methods() -> None:
    """Every function names the methods that its certificates can carry."""
    assert all(function.methods for function in FUNCTIONS.values())
