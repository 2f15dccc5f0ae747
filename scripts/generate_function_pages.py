"""Writes a page for each function, docs/functions/NAME.md, and their table, docs/functions/index.md.

python scripts/generate_function_pages.py            write the pages
python scripts/generate_function_pages.py --check    exit 1 if any is stale
python scripts/generate_function_pages.py --missing  print the functions without a hand-written part

The first half of a page comes from the catalogue (matfn_kernels.contract.functions). What follows is written by hand in
docs/functions/parts/NAME.md, if that is there; links in a part are relative to its own folder. The function's rows of
the tables accuracy.md and prices.md in benchmarks/results end the page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Final

from generate_methods import TITLES, arguments
from matfn_kernels import FUNCTIONS, Function, Input, Parameter
from matfn_kernels.contract.functions import DTYPES, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "functions"
PARTS: Final = FOLDER / "parts"
PEERS: Final = FOLDER / "peers.txt"
RESULTS: Final = FOLDER.parents[1] / "benchmarks" / "results"
NOTICE: Final = "<!-- Written by scripts/generate_function_pages.py; edit the catalogue, or the part in parts/. -->"

WIDTH: Final = 72
"""Of a call in its block, which is not wrapped by a browser."""
OPTIONS: Final = (
    "All functions also take the [options](../python.md#first-call) `method`, `certify`, `tol`, `precision`,\n"
    "`deadline`, `priority` and `on_failure`."
)

_VERIFIED: Final = {
    "bound": '`client.verify.{0}` estimates, or with `certify="proved"` bounds, the error of an answer from elsewhere',
    "estimate": "`client.verify.{0}` estimates the error of an answer from elsewhere",
    "none": "none: inputs and answer alone do not tell the error",
}
_PROVED: Final = '`certify="proved"` adds `error_bound`, a bound by a theorem, where the matrix allows one'
_JUDGED: Final = {
    "frechet_distance": "relative to \\|mu1 - mu2\\|^2 + tr S1 + tr S2, not to the distance",
    "eigh": "the largest of those of the values, the residual A V - V diag(w) and the orthogonality",
    "eigenbasis": "as of `eigh`, and the absolute error of the drift",
    "norm2": "by how much an end of the interval may be off, relative to the lower one",
    "cond": "by how much an end of the interval may be off, relative to the lower one",
    "delta_rule": "relative error of the outputs and of the final state, each in the Frobenius norm",
    "max_logit": "rounding alone, relative to the value",
    "qk_clip": "rounding alone, relative to each output",
}
"""What the error estimate of a certificate measures, where that is not the function's value in the Frobenius norm."""
_ERROR: Final = "relative error of each output in the Frobenius norm"
_SHORT: Final = {"bound": "proved bound", "estimate": "estimate", "none": ""}


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with its content."""
    yield FOLDER / "index.md", index()
    yield from ((FOLDER / f"{function.name}.md", page(function)) for function in FUNCTIONS.values())


def page(function: Function) -> str:
    """The page of a function: its entry of the catalogue, and the part that is written by hand."""
    sections = [
        f"{NOTICE}\n# {function.name}",
        function.summary,
        f"```text\n{call(function)}\n\n{function.formula}\n```",
        "The function is computed matrix by matrix over any leading dimensions, written `*` below.",
        table("input", "shape", "", rows=map(input_row, function.inputs)),
        *([table("parameter", "values", "default", "", rows=rows)] if (rows := list(parameters(function))) else []),
        table("output", "shape", rows=output_rows(function)),
        OPTIONS,
        table("", "", rows=properties(function)),
        part(function.name),
        accuracy(function.name),
        cost(function.name),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def call(function: Function) -> str:
    """The call as it is written in Python, without the options of all functions."""
    positional, keyword = arguments(function)
    own = [item for item in keyword if isinstance(item, Input) or item in function.parameters]
    listed = [*map(argument, positional), *(["*"] if own else []), *map(argument, own)]
    head = f"client.{function.name}("
    return fill(f"{head}{', '.join(listed)})", WIDTH, subsequent_indent=" " * len(head), break_on_hyphens=False)


def argument(item: Input | Parameter) -> str:
    """An argument with its default."""
    if isinstance(item, Input):
        return f"{item.name}=None" if item.optional else item.name
    return item.name if item.required else f"{item.name}={written(item.default)}"


def written(value: Value) -> str:
    """A default as it is written in a call."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def input_row(item: Input) -> tuple[str, ...]:
    """The row of an input."""
    summary = f"{item.summary} (optional)" if item.optional and "if not given" not in item.summary else item.summary
    return f"`{item.name}`", shape(item.shape), cell(summary)


def parameters(function: Function) -> Iterator[tuple[str, ...]]:
    """The row of each parameter."""
    for parameter in function.parameters:
        default = "required" if parameter.required else f"`{written(parameter.default)}`"
        yield f"`{parameter.name}`", cell(domain(parameter)), default, cell(parameter.summary)


def domain(parameter: Parameter) -> str:
    """The values that a parameter may have, in words."""
    choices = [f'`"{choice}"`' for choice in parameter.choices]
    bounds = [
        *([f"from {parameter.minimum:g}"] if parameter.minimum is not None else []),
        *([f"to {parameter.maximum:g}"] if parameter.maximum is not None else []),
    ]
    kinds = {
        "integer": [" ".join(["integer", *bounds])],
        "number": [" ".join(["number", *bounds])],
        "boolean": ["`True`", "`False`"],
        "string": choices,
        "offsets": ["whole numbers (N + 1) from 0 to t"],
        "coefficients": [f"1 to {parameter.maximum or 0:g} rows (a, b, c)"],
        "damping": [" ".join(["number", *bounds]), *choices],
    }
    arrays = ["an array of numbers"] if parameter.varies else []
    nothing = ["`None`"] if parameter.nullable else []
    return ", ".join([*kinds.get(parameter.kind, [parameter.kind, *choices]), *arrays, *nothing])


def output_rows(function: Function) -> Iterator[tuple[str, ...]]:
    """The row of each output."""
    for name, dimensions in zip(function.outputs, function.output_shapes, strict=True):
        yield f"`{name}`", shape(dimensions)
    for further in function.on_request:
        yield f"`{further.name}`", f"{shape(further.shape)}, with `{further.parameter}=True`"


def shape(labels: tuple[str, ...]) -> str:
    """A shape as docstrings write it; "m|n" is m where an optional input has it."""
    return cell(f"({', '.join(('*', *(label.replace('|', ' or ') for label in labels)))})")


def properties(function: Function) -> Iterator[tuple[str, ...]]:
    """What holds for all calls of the function."""
    kept = [f"`{dtype}`" for dtype in DTYPES if function.complex_ok or not dtype.startswith("complex")]
    yield "dtypes", ", ".join(kept)
    yield "[methods](../decisions/0002-methods.md)", ", ".join(f"`{method}`" for method in function.methods)
    yield "[certificate](../certificates.md)", f"`error_estimate`: {_JUDGED.get(function.name, _ERROR)}"
    yield "[proof](../proofs.md)", _PROVED if function.verifiability == "bound" else "none"
    yield "[gradient](../gradients.md)", gradient(function)
    yield "[verification](../http.md#verification)", _VERIFIED[function.verifiability].format(function.name)
    codes = (f"{TITLES[code][0].lower()}{TITLES[code][1:]} (`{code}`)" for code in sorted(function.errors))
    yield "errors", "; ".join(codes)
    yield "HTTP", f"[`POST /v1/{function.name}`](../http.md)"
    yield "source", cell(function.source)


def gradient(function: Function) -> str:
    """How the function is differentiated."""
    if not function.differentiable:
        return "none"
    return f"`matfn.torch.{function.name}`, `matfn.jax.{function.name}`, `client.vjp.{function.name}`"


def table(*head: str, rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = ["".join(f"| {text} " if text else "| " for text in line) + "|" for line in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def cell(text: str) -> str:
    """A text that may stand in a table and has no meaning in Markdown: code is left as it is."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([|*_])", r"\\\1", piece).replace("<", "&lt;") for piece in pieces
    )


def part(name: str) -> str:
    """What is written by hand about a function, its links relative to the page; empty where there is nothing."""
    path = PARTS / f"{name}.md"
    return re.sub(r"\]\(\.\./", "](", path.read_text()).strip() if path.exists() else ""


def accuracy(name: str) -> str:
    """The function's rows of the table of true errors; empty where it has none."""
    head, rows = measured("accuracy.md", name)
    if not rows:
        return ""
    described = (
        "Largest relative error (and largest estimate) of 16 matrices of order 32 at the default tolerance, by the\n"
        "condition of the data before it is rounded to the dtype. The [table](../../benchmarks/results/accuracy.md)\n"
        "of all functions says how it was measured. Approximate: damped by default, or with an estimate above the\n"
        "tolerance. Refused: without an answer in this dtype, with a code."
    )
    if all(not any(row[3:]) for row in rows):
        head, rows = (*head[:2], "error (estimate)"), [row[:3] for row in rows]
        described = described.replace(", by the\ncondition of the data before it is rounded to the dtype.", ".")
    return f"## Accuracy\n\n{described}\n\n{without_empty(head, rows)}"


def cost(name: str) -> str:
    """The function's rows of the table of prices; empty where it has none."""
    head, rows = measured("prices.md", name)
    if not rows:
        return ""
    described = (
        "Milliseconds a matrix on one core, certificate included, as the planner predicts them from the profile of\n"
        "processors with AVX-512 that are not Intel's; other machines have other profiles. The method is chosen by\n"
        "these prices. The [table](../../benchmarks/results/prices.md) of all functions says what the sizes are."
    )
    return f"## Cost\n\n{described}\n\n{without_empty(head, rows)}"


def measured(file: str, name: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The head and the function's rows of a table of results, without the column of functions."""
    lines = [line for line in (RESULTS / file).read_text().splitlines() if line.startswith("| ")]
    head, *rows = [tuple(text.strip() for text in line.strip("|").split("|")) for line in lines]
    return head[1:], [tuple(map(cell, row[1:])) for row in rows if row[0] == name]


def without_empty(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """The table without the columns that say nothing."""
    kept = [place for place in range(len(head)) if any(row[place] for row in rows)]
    return table(*(head[place] for place in kept), rows=[tuple(row[place] for place in kept) for row in rows])


def missing() -> list[str]:
    """The functions without a part, in the catalogue's order."""
    return [name for name in FUNCTIONS if not (PARTS / f"{name}.md").exists()]


def index() -> str:
    """The page of the table of all functions."""
    peers = dict(line.split(": ", 1) for line in PEERS.read_text().splitlines() if line and not line.startswith("#"))
    rows = [
        (
            f"[`{function.name}`]({function.name}.md)",
            cell(function.formula),
            "yes" if function.complex_ok else "",
            "yes" if function.differentiable else "",
            _SHORT[function.verifiability],
            peers.get(function.name, ""),
        )
        for function in FUNCTIONS.values()
    ]
    return (
        f"{NOTICE}\n# Functions\n\n"
        "Verified: what `client.verify` tells of an answer from elsewhere. Also in: functions of other libraries with\n"
        "the same value, or from which it follows in a line; [migrating](../migrating.md) has the calls.\n\n"
        + table("function", "value", "complex", "gradient", "verified", "also in", rows=rows)
        + "\n"
    )


def main() -> int:
    """Writes the pages, or with --check compares them; pages of functions that are no more are stale, too."""
    if "--missing" in sys.argv[1:]:
        print("\n".join(missing()))
        return 0
    wanted = dict(pages())
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    gone = [path for path in FOLDER.glob("*.md") if path not in wanted]
    if "--check" in sys.argv[1:]:
        for path in (*stale, *gone):
            print(f"stale: docs/functions/{path.name}; run python scripts/generate_function_pages.py")
        return int(bool(stale or gone))
    for path in stale:
        path.write_text(wanted[path])
        print(f"wrote docs/functions/{path.name}")
    for path in gone:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
