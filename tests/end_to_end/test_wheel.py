"""The wheel that users install: complete, light without the extra, and honest about what it lacks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from this tree."""
    target = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel and its base dependencies only."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, with_pip=True)
    install = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return home / "bin"


def test_wheel_holds_every_module_and_marker(wheel: Path) -> None:
    """Each source file of the three packages is in the wheel, type markers and assets included."""
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = [ROOT / "client" / "matfn", ROOT / "service" / "matfn_service", ROOT / "kernels" / "matfn_kernels"]
    sources = [
        path.relative_to(folder.parent).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]

    assert sorted(set(sources) - names) == []
    assert {f"{folder.name}/py.typed" for folder in folders} <= names


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_wheel_is_of_one_platform(wheel: Path) -> None:
    """The library makes the wheel one of this platform, for every Python."""
    interpreter, abi, platform = wheel.stem.split("-")[2:]

    assert (interpreter, abi) == ("py3", "none")
    assert platform.startswith(sys.platform.replace("darwin", "macosx"))
    assert "matfn_kernels/linalg/native/libmatfn_native.so" in zipfile.ZipFile(wheel).namelist()


def test_client_imports_without_the_service(bare: Path) -> None:
    """The client alone needs neither torch nor FastAPI."""
    code = "import matfn, sys; print(sorted({'torch', 'fastapi', 'scipy'} & set(sys.modules)), matfn.__version__)"

    done = subprocess.run([str(bare / "python"), "-Ic", code], check=True, capture_output=True, text=True)

    assert done.stdout.startswith("[] 0.")


@pytest.mark.parametrize(("arguments", "extra"), [(["serve"], "service"), (["functions"], "cli"), ([], "cli")])
def test_command_names_the_missing_extra(bare: Path, arguments: list[str], extra: str) -> None:
    """Without an extra `matfn` ends with 1 and says in two lines what to install for this command."""
    done = subprocess.run([str(bare / "matfn"), *arguments], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1:] == [f'hint: pip install "matfn[{extra}]"']


def test_client_is_numpy_and_msgpack(bare: Path) -> None:
    """Nothing else comes with the client."""
    code = "from importlib.metadata import distributions; print(*sorted(one.name for one in distributions()))"

    done = subprocess.run([str(bare / "python"), "-Ic", code], check=True, capture_output=True, text=True)

    assert set(done.stdout.split()) - {"pip", "setuptools"} == {"matfn", "msgpack", "numpy"}


def test_progress_needs_no_extra(bare: Path) -> None:
    """The client's bar is its own."""
    code = "from matfn.progress import counted\nwith counted(3, shown=True) as show:\n    show(3)"

    done = subprocess.run([str(bare / "python"), "-Ic", code], check=True, capture_output=True, text=True)

    assert "3/3" in done.stderr


def test_local_client_names_the_missing_extra(bare: Path) -> None:
    """Without the extra a LocalClient says what to install."""
    code = "import matfn\ntry:\n    matfn.LocalClient()\nexcept ImportError as error:\n    print(error)"

    done = subprocess.run([str(bare / "python"), "-Ic", code], check=True, capture_output=True, text=True)

    assert "matfn[service]" in done.stdout
