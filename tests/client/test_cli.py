"""The command line, in this process."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from errno import ENOSPC
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.io
import torch
from rich.console import Console
from typer.testing import CliRunner

import matfn_kernels
from matfn import tables, wire
from matfn.answers import Answer
from matfn.catalogue import FUNCTIONS
from matfn.check import cases
from matfn.cli import app
from matfn.client import Client
from matfn.errors import TABLE, Problem, problem_error
from matfn.local import LocalClient
from matfn.session import package_version
from matfn_kernels.programs.profile import Profile
from scripted_socket import Conversation, ScriptedServer, answered, http_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from typer.testing import Result


def invoked(*arguments: object) -> Result:
    """The command's result, its tables wide enough to be searched."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with matrices."""
    np.save(tmp_path / "A.npy", np.diag([1.0, 16.0]))
    np.save(tmp_path / "N.npy", -np.eye(2))
    np.save(tmp_path / "G.npy", np.ones((3, 2)))
    return tmp_path


def serving(server: ScriptedServer, conversation: Conversation) -> None:
    """Documents for GET, the first input for calls."""
    while request := server.read(conversation):
        head, _, body = request.partition(b"\r\n\r\n")
        method, target = head.decode().split()[:2]
        if method == "GET":
            document = {"functions": [asdict(function) for function in FUNCTIONS.values()], "limits": {}}
            conversation.say(http_response(json.dumps(document).encode(), content_type="application/json"))
            continue
        call = wire.decode_call(body, wire.Media.MSGPACK, target.removeprefix("/v1/"))
        conversation.say(http_response(b"".join(wire.encode_answer(answered(call), wire.Media.MSGPACK))))


def test_run_saves_the_value_and_prints_the_certificate(folder: Path) -> None:
    """`matfn run inv_root A.npy --r 4 -o X.npy --local`."""
    result = invoked("run", "inv_root", folder / "A.npy", "--r", 4, "-o", folder / "X.npy", "--local")

    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(np.load(folder / "X.npy"), np.diag([1.0, 0.5]), atol=1e-12)
    assert "converged" in result.stdout
    assert "error estimate" in result.stdout


def test_run_prints_a_number(folder: Path) -> None:
    """Without -o a number is printed in full, such as the distance of two Gaussians a tenth apart, 0.01."""
    np.save(folder / "mu.npy", np.zeros(2))
    np.save(folder / "nu.npy", np.array([0.1, 0.0]))
    inputs = [folder / name for name in ("mu.npy", "A.npy", "nu.npy", "A.npy")]

    result = invoked("run", "frechet_distance", *inputs, "--local")

    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("x = ")]
    assert float(line.removeprefix("x = ")) == pytest.approx(0.01, abs=1e-12)


def test_run_prints_small_values(folder: Path) -> None:
    """Without -o up to 64 numbers are printed as numpy prints them, each row in one line."""
    result = invoked("run", "sqrt_pair", folder / "A.npy", "--local")

    assert "x =\n[[1. 0.]\n [0. 4.]]\ny =\n[[1.   0.  ]\n [0.   0.25]]\n" in result.stdout


def test_vjp_prints_gradients(folder: Path) -> None:
    """`matfn vjp root` takes the cotangent first; the gradient of tr A^(1/2) is A^(-1/2) / 2."""
    np.save(folder / "I.npy", np.eye(2))

    result = invoked("vjp", "root", folder / "I.npy", folder / "A.npy", "--r", 2, "--local")

    assert result.exit_code == 0, result.output
    assert "a =\n[[0.5   0.   ]\n [0.    0.125]]\n" in result.stdout
    assert "converged" in result.stdout


def test_vjp_saves_each_gradient(folder: Path) -> None:
    """One file takes the first gradient, and files named after it the others."""
    np.save(folder / "T.npy", np.array([[2.0, 0.0], [0.0, 4.0]]))
    np.save(folder / "B.npy", np.array([[2.0], [4.0]]))
    np.save(folder / "Y.npy", np.ones((2, 1)))
    names = [folder / name for name in ("Y.npy", "T.npy", "B.npy")]

    result = invoked("vjp", "tri_solve", *names, "-o", folder / "G.npy", "--local")

    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(np.load(folder / "G.npy"), [[-0.5, 0.0], [-0.25, -0.25]], atol=1e-15)
    np.testing.assert_allclose(np.load(folder / "G.b.npy"), [[0.5], [0.25]], atol=1e-15)


def test_vjp_takes_one_cotangent_of_two(folder: Path) -> None:
    """A cotangent that is left out counts as zero, and one output may go to stdout."""
    np.save(folder / "I.npy", np.eye(2))
    result = invoked("vjp", "sqrt_pair", "--y", folder / "I.npy", "--a", folder / "A.npy", "-o", "-", "--local")

    assert result.exit_code == 0, result.stderr
    np.testing.assert_allclose(np.load(BytesIO(result.stdout_bytes)), np.diag([-0.5, -1 / 128]), atol=1e-15)


def test_vjp_needs_a_cotangent(folder: Path) -> None:
    """Without any cotangent the call is refused in words, and ends with 2."""
    result = invoked("vjp", "sqrt_pair", "--a", folder / "A.npy", "--local")

    assert result.exit_code == 2
    assert "needs a cotangent" in result.stderr


@pytest.mark.parametrize("shape", [(8, 8), (2, 4, 8)])
def test_order_eight_is_small(shape: tuple[int, ...]) -> None:
    """Sixty-four numbers are printed, even complex ones, a row in a line."""
    printed = tables.values_text({"x": np.full(shape, -np.pi - 1j * np.e)}).plain

    rows = [line for line in printed.splitlines() if "3.14159265" in line]
    assert [row.count("3.14159265") for row in rows] == [8] * 8


def test_run_keeps_large_values(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without -o more than 64 numbers go to a new file of the current folder, which no later run replaces."""
    monkeypatch.chdir(folder)
    np.save("L.npy", np.diag(np.arange(1.0, 10.0)))

    first = invoked("run", "sqrt_pair", "L.npy", "--local")
    second = invoked("run", "sqrt_pair", "L.npy", "--local")

    assert "wrote x to sqrt_pair.x.npy\nwrote y to sqrt_pair.y.npy\n" in first.stdout
    assert "wrote x to sqrt_pair.x.2.npy\nwrote y to sqrt_pair.y.2.npy\n" in second.stdout
    np.testing.assert_allclose(np.load("sqrt_pair.x.npy"), np.diag(np.sqrt(np.arange(1.0, 10.0))), atol=1e-12)
    np.testing.assert_array_equal(np.load("sqrt_pair.y.2.npy"), np.load("sqrt_pair.y.npy"))


def test_run_prints_what_cannot_be_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that takes no file every number is printed."""
    monkeypatch.chdir(folder)
    np.save("L.npy", np.eye(9))
    monkeypatch.setattr("matfn.targets.os.access", lambda path, mode: mode == os.R_OK)  # noqa: ARG005

    result = invoked("run", "msign", "L.npy", "--local")

    assert result.exit_code == 0, result.output
    assert sum(line.count(".") for line in result.stdout.partition("x =")[2].splitlines()) == 81
    assert not list(folder.glob("msign*"))


def test_empty_value_has_a_shape(folder: Path) -> None:
    """An answer without numbers is told by its shape and dtype."""
    np.save(folder / "empty.npy", np.ones((0, 3, 3), "f4"))

    assert "x is 0x3x3 float32, without numbers" in invoked("run", "msign", folder / "empty.npy", "--local").stdout


def test_run_saves_pairs_and_takes_inputs_by_name_or_place(folder: Path) -> None:
    """Two files for a pair; further inputs by name, or in order."""
    x, y = folder / "X.npy", folder / "Y.npy"

    assert invoked("run", "sqrt_pair", folder / "A.npy", "-o", x, "-o", y, "--local").exit_code == 0
    np.testing.assert_allclose(np.load(x) @ np.load(y), np.eye(2), atol=1e-12)

    assert (
        invoked("run", "root", folder / "A.npy", "--g", folder / "G.npy", "--r", 2, "-o", x, "--local").exit_code == 0
    )
    assert invoked("run", "root", folder / "A.npy", folder / "G.npy", "--r", 2, "-o", y, "--local").exit_code == 0
    np.testing.assert_array_equal(np.load(x), np.load(y))


def test_one_name_saves_every_output(folder: Path) -> None:
    """One -o for a pair puts the second output beside the first, and all that was written is said."""
    result = invoked("run", "sqrt_pair", folder / "A.npy", "-o", folder / "P.npy", "--local")

    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(np.load(folder / "P.npy"), np.diag([1.0, 4.0]), atol=1e-12)
    np.testing.assert_allclose(np.load(folder / "P.y.npy"), np.diag([1.0, 0.25]), atol=1e-12)
    assert f"wrote x to {folder / 'P.npy'}\nwrote y to {folder / 'P.y.npy'}\n" in result.stdout


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere/X.npy", "there is no folder"),
        ("folder.npy", "it is a folder"),
        ("locked/X.npy", "no permission"),
        (f"{'x' * 300}.npy", "file name too long"),
    ],
)
def test_unwritable_output_is_known_before_computing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    """Nothing is computed whose answer could not be saved."""
    monkeypatch.setattr("matfn.targets.os.access", lambda path, _: "locked" not in str(path))
    monkeypatch.setattr("matfn.cli.LocalClient", None)
    (folder / "folder.npy").mkdir()
    (folder / "locked").mkdir()

    result = invoked("run", "msign", folder / "A.npy", "-o", folder / name, "--local")

    assert result.exit_code == 2
    assert result.stderr.startswith(f"unusable output: {folder / name} cannot be written: {reason}")
    assert result.stderr.count("\n") == 1


def test_full_disk_is_explained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be written after all is a matter of one line too."""

    def full(*_: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)

    result = invoked("run", "msign", folder / "A.npy", "-o", folder / "X.npy", "--local")

    assert result.exit_code == 2
    assert result.stderr == f"unusable output: {folder / 'X.npy'} cannot be written: no space left on device\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.npy", "cannot be read: no such file"),
        ("", "cannot be read: is a directory"),
        ("archive.npz", "is an archive of a, b: name one, as"),
        ("words.npy", "holds text (<U1), not numbers"),
        ("objects.npy", "holds Python objects (object), not numbers"),
        ("junk.npy", "is no .npy file"),
        ("words.csv", "is damaged"),
        ("empty.csv", "holds no numbers"),
        ("junk.mtx", "is damaged"),
        ("junk.npz:a", "is damaged"),
        ("short.npy", "is damaged"),
        ("header.npy", "is damaged"),
        ("huge.npy", "is damaged"),
    ],
)
def test_unusable_file_is_one_line(folder: Path, name: str, words: str) -> None:
    """Each kind of file that holds no array of numbers is told apart, and nobody is advised to unpickle it."""
    whole = (folder / "A.npy").read_bytes()
    np.savez(folder / "archive.npz", a=np.eye(2), b=np.eye(2))
    np.save(folder / "words.npy", np.array([["a"]]))
    np.save(folder / "objects.npy", np.array([[{}]]), allow_pickle=True)
    for junk in ("junk.npy", "junk.mtx", "junk.npz"):
        (folder / junk).write_bytes(b"junk")
    (folder / "words.csv").write_text("1,2\n3,x\n")
    (folder / "empty.csv").write_text("\n")
    (folder / "short.npy").write_bytes(whole[:-8])
    (folder / "header.npy").write_bytes(whole.replace(b"'descr'", b"'other'"))
    (folder / "huge.npy").write_bytes(whole.replace(b"(2, 2), }       ", b"(999999, 99999)}"))

    result = invoked("run", "msign", folder / name, "--local")

    assert result.exit_code == 2
    assert result.stderr.startswith(f"unusable input: {folder / name} {words}")
    assert result.stderr.count("\n") == 1
    assert "pickle" not in result.stderr


@pytest.mark.parametrize("word", ["None", "none", "null"])
def test_none_has_three_spellings(folder: Path, word: str) -> None:
    """Python's, the table's and JSON's word for nothing."""
    with ScriptedServer(serving) as server:
        result = invoked("run", "mclip", folder / "A.npy", "--hi", word, "--tol", word, "--url", server.url)
        body = server.requests[-1].partition(b"\r\n\r\n")[2]

    assert result.exit_code == 0, result.output
    assert wire.decode_call(body, wire.Media.MSGPACK, "mclip").params == {"hi": None}


def test_version_is_printed() -> None:
    """The distribution's version, in one line."""
    result = invoked("--version")

    assert (result.exit_code, result.stdout) == (0, f"matfn {package_version()}\n")


def test_brackets_are_no_markup(folder: Path) -> None:
    """An interval in a summary, a hint or a file's name is printed as it is."""
    with ScriptedServer(serving) as server:
        functions = invoked("functions", "--url", server.url)
    (folder / "A.npy").rename(folder / "[bold].npy")
    saved = invoked("run", "msign", folder / "[bold].npy", "-o", folder / "[red].npy", "--local")

    assert "clipped to [lo, hi]" in " ".join(functions.stdout.split())
    assert "[lo, hi]" in " ".join(invoked("run", "mclip", "--help").stdout.split())
    assert "[red].npy" in saved.stdout
    assert "[x]: none" in invoked("explain", "[x]").stderr.replace("there is no code [x]", "[x]: none")


def test_answers_words_are_no_markup() -> None:
    """What a server says of an answer is printed as it is."""
    certificate = wire.Certificate(
        wire.Outcome.APPROXIMATE, None, 0.1, 1.0, "[m]", "fp64", 1, None, 0.0, 0.0, None, None, "w in [lo, hi]"
    )
    for certificates in ((certificate,), (certificate, certificate)):
        answer = Answer(np.eye(2), certificates, wire.Timing(0, 0, 1, 1), "", "[gpu]")
        console = Console(width=200, file=StringIO())
        console.print(tables.certificates_table("msign", answer))

        printed = console.file.getvalue()  # type: ignore[attr-defined]
        assert all(words in printed for words in ("[m]", "w in [lo, hi]", "[gpu]"))


def test_run_asks_a_server(folder: Path) -> None:
    """--url names the server; parameters arrive as values of their kind."""
    steps = ["--steps", "3", "--coefficients", "[[1.5, -0.5, 0]]", "--tol", "1e-3"]

    with ScriptedServer(serving) as server:
        result = invoked("run", "msign", folder / "A.npy", *steps, "--url", server.url)
        body = server.requests[-1].partition(b"\r\n\r\n")[2]

    call = wire.decode_call(body, wire.Media.MSGPACK, "msign")
    assert result.exit_code == 0, result.output
    assert call.params == {"steps": 3, "coefficients": ((1.5, -0.5, 0),)}
    assert call.options == {"tol": 1e-3}


def test_run_explains_a_refusal(folder: Path) -> None:
    """A typed error is code, detail and hint on stderr, exit code 1, no traceback."""
    result = invoked("run", "inv_root", folder / "N.npy", "--r", 2, "--local")

    assert result.exit_code == 1
    assert result.stderr.startswith("not_positive: matrix 0")
    assert "hint: " in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "inv_root", "A.npy"],
        ["run", "inv_root", "--r", "2"],
        ["run", "power", "A.npy"],
        ["run", "tri_inv", "A.npy", "A.npy"],
        ["run", "tri_inv", "A.npy", "-o", "X.npy", "-o", "Y.npy", "--local"],
        ["run", "sqrt_pair", "A.npy", "-o", "X.npy", "-o", "X.npy", "--local"],
        ["run", "sqrt_pair", "A.npy", "-o", "X.txt", "--local"],
        ["run", "msign", "A.npy", "--local", "--url", "http://127.0.0.1:1"],
        ["run", "msign", "A.npy", "--coefficients", "many"],
        ["run", "inv_root", "A.npy", "--r", "2", "--damping", "much"],
        ["run", "no_such_function", "A.npy"],
        ["explain"],
    ],
)
def test_wrong_usage_is_exit_code_2(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """What the command line itself can see is wrong is a usage error."""
    monkeypatch.chdir(folder)

    result = invoked(*arguments)

    assert result.exit_code == 2
    assert "class" not in result.output


@pytest.mark.parametrize(
    ("kind", "files", "options", "code"),
    [
        ("right", ["R.npy", "A.npy"], [], 0),
        ("wrong", ["A.npy", "A.npy"], [], 1),
        ("right, tolerance missed", ["R.npy", "A.npy"], ["--tol", "2.3e-16"], 1),
        ("no such value", ["A.npy", "N.npy"], [], 1),
        ("no file", ["missing.npy", "A.npy"], [], 2),
        ("other shape", ["G.npy", "A.npy"], [], 2),
        ("not finite", ["R.npy", "nan.npy"], [], 2),
        ("other dtype", ["text.npy", "A.npy"], [], 2),
        ("outside the domain", ["R.npy", "A.npy"], ["--tol", "1e-30"], 2),
        ("one file", ["R.npy"], [], 2),
    ],
)
def test_verify_exit_codes(folder: Path, kind: str, files: list[str], options: list[str], code: int) -> None:
    """0 accepts, 1 rejects, and 2 is for usage and inputs, so that a script can tell them apart."""
    np.save(folder / "R.npy", np.diag([1.0, 0.25]))
    np.save(folder / "nan.npy", np.diag([1.0, np.nan]))
    np.save(folder / "text.npy", np.array([["a"]]))
    paths = [folder / name for name in files]

    result = invoked("verify", "inv_root", *paths, "--r", 2, *options, "--local")

    assert result.exit_code == code, (kind, result.output)


@pytest.mark.parametrize("command", [("run", "msign", "A.npy"), ("verify", "msign", "A.npy", "A.npy")])
@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"code": "busy", "status": 429}, 3),
        ({"code": "internal", "status": 500}, 3),
        ({"code": "unauthorized", "status": 401}, 3),
        ({"code": "invalid_shape", "status": 422}, 2),
        ({"code": "singular", "status": 422}, 1),
    ],
)
def test_run_and_verify_agree_on_exit_codes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], document: dict[str, object], code: int
) -> None:
    """A problem has one exit code: of the matrices 1, of the call 2, of the service 3."""

    def refused(*_: object) -> None:
        raise problem_error(Problem(title="", detail="", hint=None, **document))  # type: ignore[arg-type]

    monkeypatch.setattr(LocalClient, "ask", refused)
    monkeypatch.chdir(folder)

    assert invoked(*command, "--local").exit_code == code


@pytest.mark.parametrize("command", [("run", "msign", "A.npy"), ("verify", "msign", "A.npy", "A.npy")])
def test_unreachable_service_is_exit_code_3(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """No service is neither a wrong answer nor wrong usage."""
    monkeypatch.setattr("matfn.cli.Client", lambda url: Client(url, max_retries=0))
    monkeypatch.chdir(folder)

    assert invoked(*command, "--url", "http://127.0.0.1:1").exit_code == 3


@pytest.mark.parametrize("command", [("run",), ("verify",), ("run", "msign"), ("verify", "msign")])
def test_help_states_the_exit_codes(command: tuple[str, ...]) -> None:
    """--help says what each exit code means."""
    text = " ".join(invoked(*command, "--help").output.replace("│", " ").split())

    assert "1, a claim is not converged" in text
    assert "3, the service failed or is unreachable" in text


def test_functions_lists_them() -> None:
    """Every function of the server with its parameters."""
    with ScriptedServer(serving) as server:
        result = invoked("functions", "--url", server.url)

    assert result.exit_code == 0
    assert all(name in result.stdout for name in FUNCTIONS)
    assert "structure=symmetric" in result.stdout


def test_functions_needs_no_server() -> None:
    """Without --url the functions of this version are listed."""
    result = invoked("functions")

    assert result.exit_code == 0
    assert all(name in result.stdout for name in FUNCTIONS)


def test_functions_are_data() -> None:
    """`matfn functions --json` is the catalogue as GET /v1/functions gives it, of this version or of a server."""
    own = json.loads(invoked("functions", "--json").stdout)
    with ScriptedServer(serving) as server:
        asked = json.loads(invoked("functions", "--json", "--url", server.url).stdout)

    assert [entry["name"] for entry in own["functions"]] == list(FUNCTIONS)
    assert {option["name"] for option in own["options"]} >= {"tol", "precision"}
    assert [entry["name"] for entry in asked["functions"]] == list(FUNCTIONS)


def test_status_shows_the_server() -> None:
    """`matfn status` prints the server's document, as a table or whole as JSON."""
    with ScriptedServer(serving) as server:
        table = invoked("status", "--url", server.url)
        document = json.loads(invoked("status", "--url", server.url, "--json").stdout)

    assert "limits" in table.stdout or "functions" in table.stdout
    assert document["functions"][0]["name"] == "root"


def test_status_leaves_the_rows_of_the_profile_to_json() -> None:
    """The table has facts, not the hundreds of numbers that methods are priced by."""
    table = tables.status_table(
        {"state": "ready", "calibration": {"name": "measured", "seconds": [["gemm", "fp32", 16, 1e-6]]}}
    )

    assert [str(cell) for cell in table.columns[0].cells] == ["state", "calibration name"]


@pytest.mark.parametrize("name", ["A.npz:a", "A.npz", "A.csv", "A.mtx", "A.npy"])
def test_run_reads_and_writes_files_by_suffix(folder: Path, name: str) -> None:
    """An input in any format gives one answer, and an output in any format holds its numbers to the last bit."""
    a = np.load(folder / "A.npy")
    np.savez(folder / "A.npz", a=a)
    np.savetxt(folder / "A.csv", a, delimiter=",")
    scipy.io.mmwrite(folder / "A.mtx", a)
    target = folder / f"X{(folder / name).suffix.partition(':')[0]}"

    result = invoked("run", "inv_root", folder / name, "--r", 3, "-o", target, "--local")

    assert result.exit_code == 0, result.output
    expected = LocalClient().inv_root(a, 3)
    np.testing.assert_array_equal(_saved(target), expected)


def _saved(path: Path) -> NDArray[Any]:
    """The array of a file that was written."""
    readers: dict[str, Callable[[Path], NDArray[Any]]] = {
        ".npy": np.load,
        ".npz": lambda file: np.load(file)["x"],
        ".csv": lambda file: np.loadtxt(file, delimiter=","),
        ".mtx": scipy.io.mmread,
    }
    return readers[path.suffix](path)


@pytest.mark.parametrize("suffix", ["csv", "mtx"])
@pytest.mark.parametrize("rows", [True, False])
def test_vectors_and_numbers_pass_through_text_files(folder: Path, suffix: str, rows: bool) -> None:
    """One row or one column is a vector where one is wanted, and a number is written as itself."""
    names = {name: folder / f"{name}.{suffix}" for name in ("mu1", "s1", "mu2", "s2")}
    for name, values in {"mu1": np.zeros(2), "s1": np.eye(2), "mu2": np.array([3.0, 4.0]), "s2": np.eye(2)}.items():
        write_text(names[name], np.atleast_2d(values) if rows or values.ndim > 1 else values[:, None])
    target = folder / f"d.{suffix}"

    result = invoked("run", "frechet_distance", *names.values(), "-o", target, "--local")

    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(_saved(target), 25.0, rtol=1e-14)


@pytest.mark.parametrize("name", ["b.npy", "row.csv", "column.csv", "row.mtx"])
def test_solution_of_a_vector_is_a_column_that_is_read_again(folder: Path, name: str) -> None:
    """A vector from any file is written as one column, and that column is the next right-hand side or claim."""
    b, t = np.array([2.0, 6.0]), np.diag([2.0, 3.0])
    np.save(folder / "b.npy", b)
    np.save(folder / "T.npy", t)
    for path in (folder / "row.csv", folder / "row.mtx"):
        write_text(path, b[None])
    write_text(folder / "column.csv", b[:, None])
    x, y = folder / "x.csv", folder / "y.csv"

    first = invoked("run", "tri_solve", folder / "T.npy", folder / name, "-o", x, "--local")
    second = invoked("run", "tri_solve", folder / "T.npy", x, "-o", y, "--local")
    claim = invoked("verify", "tri_solve", x, folder / "T.npy", folder / "column.csv", "--local")

    assert (first.exit_code, second.exit_code, claim.exit_code) == (0, 0, 0), first.output + second.output
    np.testing.assert_allclose(np.loadtxt(x, ndmin=2), [[1.0], [2.0]], rtol=1e-15)
    np.testing.assert_allclose(np.loadtxt(y, ndmin=2), [[0.5], [2 / 3]], rtol=1e-15)


def test_complex_numbers_pass_through_csv(folder: Path) -> None:
    """A complex answer is written as Python writes complex numbers, and read to the last bit."""
    np.save(folder / "C.npy", np.array([[2.0, 0.3j], [-0.3j, 1.0]]))
    for target in ("R.csv", "R.npy"):
        invoked("run", "root", folder / "C.npy", "--r", 3, "-o", folder / target, "--local")

    written = np.loadtxt(folder / "R.csv", np.complex128, delimiter=",")
    again = invoked("run", "msign", folder / "R.csv", "--local")

    np.testing.assert_array_equal(written, np.load(folder / "R.npy"))
    assert again.exit_code == 0, again.output


def write_text(path: Path, array: NDArray[Any]) -> None:
    """Rows and columns in a file of numpy's or scipy's."""
    if path.suffix == ".csv":
        np.savetxt(path, array, delimiter=",")
    else:
        scipy.io.mmwrite(path, array)


def test_one_archive_takes_every_output(folder: Path) -> None:
    """A single .npz holds all outputs by their names."""
    result = invoked("run", "sqrt_pair", folder / "A.npy", "-o", folder / "P.npz", "--local")

    assert result.exit_code == 0, result.output
    with np.load(folder / "P.npz") as saved:
        np.testing.assert_allclose(saved["x"] @ saved["y"], np.eye(2), atol=1e-12)


def test_text_files_hold_no_stacks(folder: Path) -> None:
    """A stack of answers is refused for a .csv before it is computed."""
    np.save(folder / "stack.npy", np.ones((3, 2, 2)))

    result = invoked("run", "msign", folder / "stack.npy", "-o", folder / "X.csv", "--local")

    assert result.exit_code == 2
    assert "holds one matrix" in result.stderr


def test_text_files_hold_no_heads(folder: Path) -> None:
    """An output of three dimensions is refused for a .csv before it is computed."""
    np.save(folder / "W.npy", np.ones((3, 2, 2)))
    np.save(folder / "l.npy", np.ones(3))
    paths = [folder / name for name in ("W.npy", "W.npy", "l.npy")]
    targets = [part for name in ("a.csv", "b.npy", "c.npy") for part in ("-o", folder / name)]

    result = invoked("run", "qk_clip", *paths, *targets, "--local")

    assert result.exit_code == 2
    assert "a.csv holds one matrix, and x is a stack of them" in result.stderr


def test_pipes_carry_arrays(folder: Path) -> None:
    """- reads .npy from stdin and writes it to stdout, with the certificate on stderr."""
    given = (folder / "A.npy").read_bytes()

    result = CliRunner().invoke(app, ["run", "inv_root", "-", "--r", "4", "-o", "-", "--local"], input=given)

    assert result.exit_code == 0, result.stderr
    np.testing.assert_allclose(np.load(BytesIO(result.stdout_bytes)), np.diag([1.0, 0.5]), atol=1e-12)
    assert "converged" in result.stderr


def test_two_inputs_from_stdin_are_refused(folder: Path) -> None:
    """Stdin holds one array."""
    result = CliRunner().invoke(app, ["run", "tri_solve", "-", "-", "--local"], input=(folder / "A.npy").read_bytes())

    assert result.exit_code == 2
    assert "stdin holds one input" in result.stderr


def test_json_is_the_whole_answer(folder: Path) -> None:
    """--json prints one object: outputs, certificates and timing; complex numbers are pairs, NaN is null."""
    np.save(folder / "C.npy", np.array([[1.0, 1j], [-1j, 3.0]]))
    np.save(folder / "F.npy", np.array([[[np.nan]], [[4.0]]]))

    c = json.loads(invoked("run", "root", folder / "C.npy", "--r", 2, "--json", "--local").stdout)
    f = json.loads(
        invoked("run", "root", folder / "F.npy", "--r", 2, "--on-failure", "nan", "--json", "--local").stdout
    )

    root = np.array(c["outputs"]["x"]["data"]) @ np.array([1, 1j])
    np.testing.assert_allclose(root @ root, np.load(folder / "C.npy"), atol=1e-12)
    assert f["outputs"]["x"] == {"dtype": "float64", "shape": [2, 1, 1], "data": [[[None]], [[2.0]]]}
    assert [one["code"] for one in f["certificates"]] == ["not_finite", None]


def test_json_leaves_stdout_to_an_array(folder: Path) -> None:
    """With -o - the array has stdout for itself, and JSON comes on stderr."""
    result = invoked("run", "msign", folder / "A.npy", "--json", "-o", "-", "--local")

    np.testing.assert_allclose(np.load(BytesIO(result.stdout_bytes)), np.eye(2), atol=1e-12)
    assert json.loads(result.stderr)["outputs"]["x"]["file"] == "-"


def test_json_of_a_problem(folder: Path) -> None:
    """Under --json a refusal is the service's problem object, with the exit code that it has in words."""
    command = ("run", "inv_root", folder / "N.npy", "--r", 2, "--local")

    plain, told = invoked(*command), invoked(*command, "--json")
    beside = invoked(*command, "--json", "-o", "-")

    problem = json.loads(told.stdout)
    assert (problem["code"], problem["status"], problem["index"]) == ("not_positive", 422, 0)
    assert (told.stderr, beside.stdout) == ("", "")
    assert json.loads(beside.stderr) == problem
    assert plain.exit_code == told.exit_code == beside.exit_code == 1


@pytest.mark.parametrize(
    ("command", "code", "title"),
    [
        (("run", "msign", "missing.npy", "--local"), 2, "unusable input"),
        (("run", "msign", "A.npy", "-o", "nowhere/X.npy", "--local"), 2, "unusable output"),
        (("verify", "msign", "A.npy", "A.npy", "--url", "http://127.0.0.1:1"), 3, "no answer"),
        (("status", "--url", "http://127.0.0.1:1"), 3, "no answer"),
        (("functions", "--url", "http://127.0.0.1:1"), 3, "no answer"),
    ],
)
def test_json_of_what_has_no_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], code: int, title: str
) -> None:
    """Other failures are problem objects too, of no type of the service's."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("matfn.cli.Client", lambda url: Client(url, max_retries=0))

    result = invoked(*command, "--json")

    problem = json.loads(result.stdout)
    assert (result.exit_code, problem["type"], problem["title"]) == (code, "about:blank", title)
    assert problem["detail"]


def test_json_names_the_files(folder: Path) -> None:
    """With -o, JSON has the file in place of the numbers."""
    target = folder / "X.npy"

    document = json.loads(invoked("run", "msign", folder / "A.npy", "--json", "-o", target, "--local").stdout)

    assert document["outputs"]["x"] == {"dtype": "float64", "shape": [2, 2], "file": str(target)}


def test_bench_names_its_workloads() -> None:
    """A workload that is none is refused with those there are."""
    result = invoked("bench", "--shapes", "inv_root:3x3")

    assert result.exit_code == 2
    assert "shampoo1024" in result.stderr
    assert "inv_root:16x256x256:float32" in " ".join(result.stderr.split())


def test_check_fails_on_a_wrong_answer() -> None:
    """A server that hands back its input is wrong, and the exit code says so."""
    with ScriptedServer(serving) as server:
        result = invoked("check", "--url", server.url)

    assert result.exit_code == 1
    assert "WRONG" in result.stdout
    assert f"0 of {len(cases())} answers are right" in result.stdout


@pytest.mark.parametrize("command", ["check", "functions"])
def test_unreachable_server_is_explained(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server: exit code 3, and how to start one."""
    monkeypatch.setattr("matfn.cli.Client", lambda url: Client(url, max_retries=0))

    result = invoked(command, "--url", "http://127.0.0.1:1")

    assert result.exit_code == 3
    assert result.stderr.startswith("no answer: cannot connect to http://127.0.0.1:1")
    assert "matfn serve" in result.stderr


@pytest.mark.parametrize("command", [("functions",), ("run", "msign", "A.npy", "-o", "X.npy")])
def test_url_given_twice_is_two_servers(
    folder: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several servers any may answer."""
    monkeypatch.chdir(folder)
    with ScriptedServer(serving) as server:
        result = invoked(*command, "--url", "http://127.0.0.1:1", "--url", server.url)

    assert result.exit_code == 0


def test_bad_url_is_explained() -> None:
    """A URL of no known kind is a matter of one line."""
    result = invoked("functions", "--url", "ftp://nowhere")

    assert result.exit_code == 2
    assert "neither http://" in result.stderr


@pytest.mark.parametrize("code", sorted(TABLE))
def test_explain_knows_every_code(code: str) -> None:
    """Status, meaning and remedy of each code."""
    result = invoked("explain", code)

    assert result.exit_code == 0
    assert str(TABLE[code].status) in result.stdout
    assert TABLE[code].title in result.stdout


def test_explain_names_the_codes_it_knows() -> None:
    """An unknown code is answered with the known ones."""
    result = invoked("explain", "nope")

    assert result.exit_code == 1
    assert "not_positive" in result.stderr


def test_calibrate_writes_what_a_client_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is a profile by its own name, and MATFN_PROFILE takes it."""
    monkeypatch.setenv("MATFN_STARTED_AGAIN", "1")
    monkeypatch.setattr(matfn_kernels, "measure", lambda device: Profile(device, Profile.nominal().seconds))
    path = tmp_path / "mine.json"

    result = invoked("calibrate", "-o", path, "--device", "cpu")
    monkeypatch.setenv("MATFN_PROFILE", str(path))

    assert (result.exit_code, result.output) == (0, f"wrote {Profile.parse(path.read_text()).label} to {path}\n")
    assert LocalClient(device="cpu").status()["profile"]["name"] == "mine"


@pytest.mark.parametrize("name", ["two words.json", "folder/mine.json"])
def test_calibrate_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A name that no profile can have, and a folder that is not there, are explained."""
    monkeypatch.setenv("MATFN_STARTED_AGAIN", "1")
    monkeypatch.setattr(matfn_kernels, "measure", lambda device: Profile(device, Profile.nominal().seconds))

    assert invoked("calibrate", "-o", tmp_path / name, "--device", "cpu").exit_code == 1


@pytest.mark.parametrize(("device", "reason"), [("cuda", "finds no GPU"), ("mps", "computes on cpu and cuda")])
def test_a_device_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, reason: str
) -> None:
    """`matfn calibrate` and LocalClient say what computes here, and why not what was asked for."""
    monkeypatch.setenv(
        "MATFN_STARTED_AGAIN", "1"
    )  # or it would start this process again, to measure as workers compute
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    result = invoked("calibrate", "-o", tmp_path / "mine.json", "--device", device)

    assert result.exit_code == 1
    assert reason in result.output
    with pytest.raises(ValueError, match=reason):
        LocalClient(device=device)


def test_a_narrow_table_keeps_its_title_on_a_line(folder: Path) -> None:
    """The title is as readable where there is no certificate to show."""
    np.save(folder / "none.npy", np.zeros((0, 2, 2)))

    result = invoked("run", "root", folder / "none.npy", "--r", 2, "--local")

    assert "root: 0x2x2 on cpu" in result.output


def test_run_takes_a_method(folder: Path) -> None:
    """--method is one of the function's methods."""
    result = invoked(
        "run", "inv_root", folder / "A.npy", "--r", 2, "--method", "eigh", "-o", folder / "X.npy", "--local"
    )

    assert result.exit_code == 0, result.output
    assert "eigh" in result.output


@pytest.mark.parametrize("missing", ["matfn_service.serve", "matfn_service.server", "matfn_service.configuration"])
def test_serve_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Without the service or what it needs installed, `matfn serve` exits 1 and says what to install."""
    monkeypatch.setenv("MATFN_STARTED_AGAIN", "1")
    monkeypatch.setitem(sys.modules, missing, None)

    result = invoked("serve")

    assert result.exit_code == 1
    assert 'pip install "matfn[service]"' in result.stderr


@pytest.mark.parametrize(("options", "written"), [([], ["X.npy"]), (["--gain"], ["X.npy", "X.y.npy"])])
def test_outputs_on_request_have_files(folder: Path, options: list[str], written: list[str]) -> None:
    """`matfn run solve_care --gain -o X.npy` writes the gain beside the solution."""
    shapes = {"a": np.eye(2), "b": np.ones((2, 1)) * [[1.0], [2.0]], "q": np.eye(2), "r": np.eye(1)}
    shapes["a"] = np.array([[0.0, 1.0], [2.0, 0.5]])
    for name, array in shapes.items():
        np.save(folder / f"{name}.npy", array)

    files = [folder / f"{name}.npy" for name in shapes]
    result = invoked("run", "solve_care", *files, *options, "-o", folder / "X.npy", "--local")

    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.glob("X*.npy")) == written
