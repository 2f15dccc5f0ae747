"""The command line: serve, functions, run, check, calibrate, explain."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from matfn import tables
from matfn.catalogue import ENTRIES, FUNCTIONS
from matfn.check import cases, verdict_of
from matfn.client import Client
from matfn.complaints import EXIT_CODES, Exit, explained, fail
from matfn.errors import TABLE
from matfn.local import LocalClient, calibrated
from matfn.npy_files import spare_targets, write_array
from matfn.run_command import Job, add_functions
from matfn.session import package_version

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["app", "main"]

app = typer.Typer(
    help="Matrix functions as a service: batched, certified roots, polar factors, clipping and triangular inverses.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(help=f"Apply one function to .npy files.\n\n{EXIT_CODES}", no_args_is_help=True)
app.add_typer(run_app, name="run")
verify_app = typer.Typer(help=f"Check claimed answers in .npy files.\n\n{EXIT_CODES}", no_args_is_help=True)
app.add_typer(verify_app, name="verify")

# a pipe has no width of its own, and what is cut off cannot be searched for
_out = Console() if sys.stdout.isatty() else Console(width=160)

Urls = Annotated[
    list[str] | None,
    typer.Option("--url", help="The server, or one of several; MATFN_URL, then http://127.0.0.1:8000, by default."),
]


def main() -> None:
    """The console script."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        _out.print(Text(f"matfn {package_version()}"))
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Matrix functions as a service: batched, certified roots, polar factors, clipping and triangular inverses."""
    del version  # its callback has printed it


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    device: Annotated[str | None, typer.Option(help="Where to compute: auto, cpu or cuda.")] = None,
    uds: Annotated[str | None, typer.Option(help="Path of a unix socket to listen on instead.")] = None,
) -> None:
    """Start the service in the foreground; settings are environment variables MATFN_*."""
    try:
        from matfn_service.serve import main as serve_main

        code = serve_main(host=host, port=port, device=device, uds=uds)
    except ImportError as error:
        fail("the service is not installed", f"{error.name} is missing", 'pip install "matfn[service]"')
    raise typer.Exit(code)


@app.command()
def functions(urls: Urls = None) -> None:
    """List the functions of a server with their inputs and parameters."""
    with explained(), _client(urls) as client:
        _out.print(tables.functions_table(client.functions()))


@app.command()
def check(urls: Urls = None) -> None:
    """Test a live server against float64 truth; exit code 1 if any answer is wrong."""
    with explained(), _client(urls) as client:
        client.status()
        verdicts = [verdict_of(client, case) for case in cases()]
    _out.print(tables.verdicts_table(verdicts))
    wrong = sum(not verdict.right for verdict in verdicts)
    _out.print(f"{len(verdicts) - wrong} of {len(verdicts)} answers are right")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def calibrate(
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write; its stem names the profile.")],
    device: Annotated[str | None, typer.Option(help="What to measure: cpu or cuda; a GPU if there is one.")] = None,
) -> None:
    """Measure this machine, on one thread, and write the profile that MATFN_PROFILE may name."""
    if output.is_dir() or not output.parent.is_dir():
        fail("cannot calibrate", f"{output} is a folder, or its folder does not exist")
    try:
        from matfn_service.serve import settle_environment

        settle_environment()  # under which workers compute
        profile = calibrated(output.stem, device)
        output.write_text(profile.text())
    except ImportError as error:
        fail("cannot measure", f"{error.name} is missing", 'pip install "matfn[service]"')
    except (OSError, RuntimeError, ValueError) as error:
        fail("cannot calibrate", str(error))
    _out.print(Text(f"wrote {profile.label} to {output}"), soft_wrap=True)


@app.command()
def explain(code: Annotated[str, typer.Argument(help="A problem's code, such as not_positive.")]) -> None:
    """Say what an error code means and what to try."""
    row = TABLE.get(code)
    if row is None:
        fail("unknown code", f"there is no code {code}", f"known codes: {', '.join(TABLE)}")
    _out.print(tables.code_table(row))


def _run(job: Job, targets: Mapping[str, Path], urls: list[str] | None, local: bool) -> None:
    """Answers one call, prints its certificates, and saves its values or prints them."""
    with explained(), _client(urls, local=local) as client:
        answer = client.ask(job)
    values = answer.value if isinstance(answer.value, tuple) else (answer.value,)
    _out.print(tables.certificates_table(job.function, answer))
    outputs = dict(zip(FUNCTIONS[job.function].outputs, values, strict=True))
    if not targets:
        targets = spare_targets(job.function, [name for name, value in outputs.items() if not tables.is_small(value)])
        printed = {name: value for name, value in outputs.items() if name not in targets}
        if printed:
            _out.print(tables.values_text(printed), soft_wrap=True)
    for name, path in targets.items():
        write_array(path, outputs[name])
        _out.print(Text(f"wrote {name} to {path}"), soft_wrap=True)


def _verify(job: Job, targets: Mapping[str, Path], urls: list[str] | None, local: bool) -> None:
    """Prints the certificates of a claimed answer; exit code 1 unless all are converged."""
    del targets  # there are no outputs
    with explained(), _client(urls, local=local) as client:
        answer = client.ask(job)
    _out.print(tables.certificates_table(job.function, answer))
    if any(certificate.outcome != "converged" for certificate in answer.certificates):
        raise typer.Exit(Exit.REJECTED)


add_functions(run_app, FUNCTIONS.values(), _run)
add_functions(verify_app, (entry for entry in ENTRIES.values() if entry.claims), _verify)


def _client(urls: list[str] | None, *, local: bool = False) -> Client | LocalClient:
    try:
        return LocalClient() if local else Client(urls or None)
    except ImportError as error:
        fail("cannot start", str(error), exit_code=Exit.UNSERVED)
    except ValueError as error:
        fail("cannot start", str(error), exit_code=Exit.UNUSABLE)
