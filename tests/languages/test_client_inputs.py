"""What the clients in other languages send: shapes and numbers as they were given, or an error that says what to do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from processes import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = Path(__file__).parents[2] / "examples" / "clients"
TRIANGLES = np.array([[[2.0, 1.0], [0.0, 4.0]], [[1.0, 3.0], [0.0, 5.0]]])
COLUMNS = np.array([[1.0, 2.0], [3.0, 4.0]])
WIDE = np.array([[1.0, -2.0, 3.0, 4.0], [5.0, 6.0, -7.0, 8.0], [9.0, 1.0, 2.0, 3.0]])
OCTAVE = """
addpath('{folder}');
t = permute(reshape([2 1 0 4 1 3 0 5], [2 2 2]), [3 2 1]);
b = [1 2; 3 4];
v = struct('value', b(1, :), 'shape', 2);
w = [1 -2 3 4; 5 6 -7 8; 9 1 2 3];
answer = matfn({call});
x = answer.outputs.x;
printf('%.17g\\n', permute(x, ndims(x):-1:1));
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server."""
    with running_server() as server:
        yield server.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[matfn.Client]:
    """The Python client of that server."""
    with matfn.Client(url) as client:
        yield client


@pytest.fixture
def recorder() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a server that refuses every call, and the calls it was sent."""
    calls: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(422)
            self.end_headers()
            page = self.path.startswith("/page")
            self.wfile.write(b"<html>" if page else b'{"code": "recorded", "detail": "the call", "hint": "none"}')

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", calls
    server.shutdown()
    thread.join()
    server.server_close()


def ran(line: list[str], url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the command prints, with the address in its environment."""
    variables = {**os.environ, "MATFN_URL": url, "MATFN_API_KEY": "", **environment}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=variables, timeout=60)


def octave(call: str) -> list[str]:
    """The command that prints the first output of a call, number by number and row by row."""
    return ["octave", "--no-gui", "--quiet", "--eval", OCTAVE.format(folder=CLIENTS, call=call)]


def r(call: str) -> list[str]:
    """The command that prints the first output of a call in R, row by row."""
    program = f'source("{CLIENTS}/matfn.R"); x <- matfn({call})$x; rows <- if (is.null(dim(x))) x else aperm(x)'
    program += '; cat(sprintf("%.17g", rows))'
    return ["Rscript", "-e", program]


def javascript(call: str) -> list[str]:
    """The command that prints the first output of a call in JavaScript."""
    program = f'import {{ call, matrix }} from "{CLIENTS}/matfn.mjs"; const {{ outputs }} = await call({call})'
    program += '; console.log([...outputs.x.data].join(" "))'
    return ["node", "--input-type=module", "--eval", program]


def command(language: str, *arguments: str) -> list[str]:
    """The command line of a client."""
    return {"javascript": ["node", str(CLIENTS / "matfn.mjs")], "r": ["Rscript", str(CLIENTS / "matfn.R")]}[
        language
    ] + list(arguments)


def numbers(done: subprocess.CompletedProcess[str]) -> list[float]:
    """The numbers that a program printed."""
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.replace(",", " ").split()]


@pytest.mark.parametrize(
    ("inputs", "function", "arguments"),
    [
        ("'t', t, 'b', struct('value', b, 'shape', [2 2 1])", "tri_solve", [TRIANGLES, COLUMNS[..., None]]),
        ("'t', t, 'b', struct('value', b, 'shape', [2 2])", "tri_solve", [TRIANGLES, COLUMNS]),
        ("'t', b', 'b', struct('value', [1; 3], 'shape', [2 1])", "tri_solve", [COLUMNS.T, COLUMNS[:, :1]]),
        ("'m', struct('value', w, 'shape', [3 4 1])", "msign", [WIDE[..., None]]),
        ("'m', struct('value', w, 'shape', [1 3 4])", "msign", [WIDE[None]]),
        ("'m', w", "msign", [WIDE]),
        ("'m', -4", "msign", [np.array([[-4.0]])]),
        (
            "'mu1', v, 's1', eye(2), 'mu2', struct('value', b(:, 1), 'shape', 2), 's2', b * b'",
            "frechet_distance",
            [COLUMNS[0], np.eye(2), COLUMNS[:, 0], COLUMNS @ COLUMNS.T],
        ),
        ("'m', zeros(0, 3, 3)", "msign", [np.zeros((0, 3, 3))]),
        ("'m', zeros(0, 0)", "msign", [np.zeros((0, 0))]),
    ],
)
def test_octave_sends_the_shape(
    url: str, client: matfn.Client, inputs: str, function: str, arguments: list[np.ndarray]
) -> None:
    """A stated shape, and else the size of a matrix or array: the answer is that of numpy's array of this shape."""
    expected = getattr(client, function)(*arguments)

    done = ran(octave(f"'{function}', struct({inputs})"), url)

    assert numbers(done) == pytest.approx(np.ravel(expected), rel=1e-14)


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        ("'tri_solve', struct('t', t, 'b', b)", "[2 2 1] or [2 2]"),
        ("'tri_solve', struct('t', b, 'b', [1; 2])", "2 or [2 1]"),
        ("'frechet_distance', struct('mu1', [1; 2], 's1', eye(2), 'mu2', [1; 5], 's2', eye(2))", "2 or [2 1]"),
        ("'tri_solve', struct('t', ones(2, 2, 1, 1), 'b', ones(2, 2, 3))", "[2 2 1] or [2 2]"),
    ],
)
def test_octave_asks_for_an_ambiguous_shape(url: str, call: str, shapes: str) -> None:
    """Dimensions of 1 at the end do not exist in Octave: the error says how to state them, and nothing is sent."""
    done = ran(octave(call), url)

    assert done.returncode != 0
    assert "state its shape" in done.stderr
    assert shapes in done.stderr


@pytest.mark.parametrize("shape", ["[4 3]", "[2 6]", "[3 4 2]"])
def test_octave_refuses_a_shape_of_other_dimensions(url: str, shape: str) -> None:
    """A stated shape adds or removes dimensions of 1, and never reorders numbers."""
    done = ran(octave(f"'msign', struct('m', struct('value', w, 'shape', {shape}))"), url)

    assert "[3 4], not " + shape in done.stderr


@pytest.mark.parametrize("value", ["b + 1i", "'abc'", "{{1, 2}}"])
def test_octave_refuses_what_is_no_real_number(url: str, value: str) -> None:
    """Complex numbers, characters and cells are errors."""
    done = ran(octave(f"'msign', struct('m', {value})"), url)

    assert "input m is not an array of real numbers" in done.stderr


@pytest.mark.parametrize("language", ["javascript", "r", "octave"])
def test_every_digit_of_a_parameter_is_sent(recorder: tuple[str, list[dict[str, Any]]], language: str) -> None:
    """Numbers of seventeen digits, near 0 and whole ones arrive as they were, in lists and options too."""
    address, calls = recorder
    line = {
        "javascript": lambda: javascript(
            '"f", {}, {a: 2/3, b: 0.1 + 0.2, c: 4/3, d: 1e-17, e: 1e-300, r: 4, n: 2**53, l: [1e-17, 1/3], '
            'm: [[0.5, 2/3], [1e-17, 7]], s: "x", t: true}, {options: {tol: 1/3e17}}'
        ),
        "r": lambda: r(
            '"f", list(x = matrix(1)), list(a = 2/3, b = 0.1 + 0.2, c = 4/3, d = 1e-17, e = 1e-300, r = 4, n = 2^53, '
            'l = c(1e-17, 1/3), m = rbind(c(0.5, 2/3), c(1e-17, 7)), s = "x", t = TRUE), list(tol = 1/3e17)'
        ),
        "octave": lambda: octave(
            "'f', struct(), struct('a', 2/3, 'b', 0.1 + 0.2, 'c', 4/3, 'd', 1e-17, 'e', 1e-300, 'r', 4, 'n', 2^53, "
            "'l', [1e-17 1/3], 'm', [0.5 2/3; 1e-17 7], 's', 'x', 't', true), struct('tol', 1/3e17)"
        ),
    }[language]()

    done = ran(line, address)

    assert "recorded: the call" in done.stderr
    assert calls[0]["params"] == {
        "a": 2 / 3, "b": 0.1 + 0.2, "c": 4 / 3, "d": 1e-17, "e": 1e-300, "r": 4, "n": 2**53, "l": [1e-17, 1 / 3],
        "m": [[0.5, 2 / 3], [1e-17, 7]], "s": "x", "t": True,
    }  # fmt: skip
    assert {type(calls[0]["params"][name]) for name in "rn"} == {int}
    assert calls[0]["options"] == {"tol": 1 / 3e17}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (javascript('"power", {a: [[1]]}, {p: NaN}'), "p: NaN is not a finite number"),
        (r('"power", list(a = matrix(1)), list(p = NaN)'), "p='NaN'"),
        (octave("'power', struct('a', 1), struct('p', NaN)"), "finite"),
    ],
    ids=["javascript", "r", "octave"],
)
def test_parameter_that_is_not_finite_is_an_error(url: str, line: list[str], words: str) -> None:
    """JSON has no NaN; null would mean the default."""
    assert words in ran(line, url).stderr


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("matrix(1:4, 2) + 1i", "type complex"),
        ('matrix(c("2", "1", "1", "3"), 2)', "type character"),
        ("data.frame(x = c(2, 1), y = c(1, 3))", "data.frame"),
    ],
)
def test_r_refuses_what_is_no_real_number(url: str, value: str, words: str) -> None:
    """Complex numbers do not lose their imaginary part, nor are words read as numbers."""
    done = ran(r(f'"msign", list(m = {value})'), url)

    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("[[4, null], [1, 3]]", "a, row 1, column 2: null is not a number"),
        ('[[4, 1], ["", 3]]', 'a, row 2, column 1: "" is not a number'),
        ("[[4, 1], [1]]", "a, row 2: 1 entries, and 2 before"),
        ("[[4, 1], 3]", "a, row 2: 3 is not a list"),
        ("[[[4, 1], [1, 3]], [[4, 1], [1, true]]]", "a, matrix 2, row 2, column 2: true is not a number"),
        ("{shape: [2, 2], data: [4, 1, null, 3]}", "a, column 3: null is not a number"),
    ],
)
def test_javascript_refuses_what_is_no_number(url: str, rows: str, words: str) -> None:
    """Empty cells and nulls are not 0, and the error says where they are."""
    assert words in ran(javascript(f'"inv_root", {{a: {rows}}}, {{r: 2}}'), url).stderr


@pytest.mark.parametrize("given", ["ROWS", "matrix(ROWS)", "ROWS.map((a) => a.map((row) => Float64Array.from(row)))"])
def test_javascript_takes_batches_as_lists(url: str, client: matfn.Client, given: str) -> None:
    """Lists of lists of rows are matrices."""
    batch = np.stack([COLUMNS, COLUMNS.T, 3 * COLUMNS])

    done = ran(javascript(f'"msign", {{m: {given.replace("ROWS", json.dumps(batch.tolist()))}}}'), url)

    assert numbers(done) == pytest.approx(client.msign(batch).ravel(), rel=1e-14)


@pytest.mark.parametrize("language", ["javascript", "r"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4,1\n,3\n", 'row 2, column 1: "" is not a number'),
        ("4,x\n1,3\n", 'row 1, column 2: "x" is not a number'),
        ("4,1\n1\n", "row"),
        ("1,2\n" * 7 + "1,2,3\n", "row"),
    ],
)
def test_file_that_is_no_matrix_is_an_error(url: str, tmp_path: Path, language: str, text: str, words: str) -> None:
    """The file, and the row and column of the cell."""
    (tmp_path / "a.csv").write_text(text)

    done = ran(command(language, "inv_root", f"a={tmp_path}/a.csv", "r=2"), url)

    assert done.returncode == 1
    assert f"{tmp_path}/a.csv" in done.stderr
    assert words in done.stderr


@pytest.mark.parametrize("language", ["javascript", "r"])
@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("4\n", "", [0.5]),
        ("4\n", "@1x1", [0.5]),
        ("4,16,0.25\n", "@3x1x1", [0.5, 0.25, 2.0]),
        ("4,0,0,16\n", "@2x2", [0.5, 0, 0, 0.25]),
        ("4,0\n0,16\n1,0\n0,0.25\n", "@2x2x2", [0.5, 0, 0, 0.25, 1, 0, 0, 2.0]),
    ],
)
def test_shape_of_a_file(url: str, tmp_path: Path, language: str, text: str, shape: str, expected: list[float]) -> None:
    """A number alone is a matrix, and @ states any other shape, of a batch too."""
    (tmp_path / "a.csv").write_text(text)

    done = ran(command(language, "inv_root", f"a={tmp_path}/a.csv{shape}", "r=2"), url)

    assert numbers(done) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("language", ["javascript", "r"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "usage:"),
        (("a=a.csv",), "usage:"),
        (("inv_root", "a.csv"), "'a.csv' is not NAME=VALUE; usage:"),
        (("inv_root", "a="), "'a=' is not NAME=VALUE; usage:"),
        (("inv_root", "a=absent.csv"), "absent.csv"),
    ],
)
def test_wrong_command_line_is_told_in_words(url: str, language: str, arguments: tuple[str, ...], words: str) -> None:
    """A sentence with the way to call."""
    done = ran(command(language, *arguments), url)

    assert done.returncode == 1
    assert words in done.stderr


@pytest.mark.parametrize("language", ["javascript", "r"])
def test_command_line_takes_options_and_decimal_points(url: str, tmp_path: Path, language: str) -> None:
    """--tol=... is an option of the call; .5 is a number; an address may end with a slash."""
    (tmp_path / "a.csv").write_text("4,0\n0,9\n")
    file = f"a={tmp_path}/a.csv"

    done = ran(command(language, "power", file, "p=.5", "--tol=1e-3"), url + "/")
    refused = ran(command(language, "power", file, "p=.5", "--tol=-1"), url)

    assert numbers(done) == pytest.approx([2, 0, 0, 3])
    assert "tol=-1" in refused.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (javascript('"norm2", {m: [[1]]}'), "ECONNREFUSED"),
        (r('"norm2", list(m = matrix(1))'), "connect"),
        (octave("'norm2', struct('m', 1)"), "curl: (7)"),
    ],
    ids=["javascript", "r", "octave"],
)
def test_dead_server_is_unreachable(line: list[str], words: str) -> None:
    """The address, and the reason."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"

        done = ran(line, address)

    assert done.returncode != 0
    assert f"unreachable: {address}/v1/norm2: " in done.stderr
    assert words in done.stderr


@pytest.mark.parametrize(
    "line",
    [javascript('"norm2", {m: [[1]]}'), r('"norm2", list(m = matrix(1))'), octave("'norm2', struct('m', 1)")],
    ids=["javascript", "r", "octave"],
)
def test_answer_of_another_server_is_told(recorder: tuple[str, list[dict[str, Any]]], line: list[str]) -> None:
    """A page instead of JSON, such as a proxy's."""
    address, _ = recorder

    done = ran(line, address + "/page")

    assert done.returncode != 0
    assert f"unreachable: {address}/page/v1/norm2" in done.stderr
    assert "without JSON" in done.stderr


def test_octave_keeps_the_shell_from_names_and_addresses(url: str, tmp_path: Path) -> None:
    """Neither runs as a command, and a folder of temporary files may have a space and a quote in its name."""
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    mark = tmp_path / "mark"

    good = ran(octave("'norm2', struct('m', 3)"), url + "//", TMPDIR=str(folder))
    named = ran(octave(f"'norm2; touch {mark}', struct('m', 3)"), url)
    addressed = ran(octave("'norm2', struct('m', 3)"), f"{url}/$(touch {mark})'; touch {mark}; echo '`touch {mark}`")

    assert numbers(good) == pytest.approx([3])
    assert list(folder.iterdir()) == []
    assert "no function is called" in named.stderr
    assert addressed.returncode != 0
    assert not mark.exists()
