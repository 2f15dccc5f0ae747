"""The command line: serve, functions, status, run, verify, vjp, check, bench, calibrate, explain."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from matfn import tables
from matfn.answers import outputs_of
from matfn.array_files import STANDARD, write_arrays
from matfn.bench import PRESETS, measure, verdict, workload_of
from matfn.catalogue import ENTRIES, FUNCTIONS, OPTIONS
from matfn.check import cases, verdict_of
from matfn.client import Client
from matfn.complaints import EXIT_CODES, Exit, Form, explained, fail, told_as
from matfn.errors import TABLE
from matfn.json_answer import answer_json
from matfn.local import LocalClient, calibrated, described
from matfn.run_command import Job, Wanted, add_functions, results_of
from matfn.session import package_version
from matfn.targets import spare_targets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matfn.answers import Answer

__all__ = ["app", "main"]

app = typer.Typer(
    help="Matrix functions as a service: certified roots, logarithms, polar factors and matrix equations in batches.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(help=f"Apply one function to arrays in files.\n\n{EXIT_CODES}", no_args_is_help=True)
app.add_typer(run_app, name="run")
verify_app = typer.Typer(help=f"Check claimed answers in files.\n\n{EXIT_CODES}", no_args_is_help=True)
app.add_typer(verify_app, name="verify")
vjp_app = typer.Typer(help=f"Gradients of functions of arrays in files.\n\n{EXIT_CODES}", no_args_is_help=True)
app.add_typer(vjp_app, name="vjp")

# a pipe has no width of its own, and what is cut off cannot be searched for
_out = Console() if sys.stdout.isatty() else Console(width=160)
_beside = Console(stderr=True, width=None if sys.stderr.isatty() else 160)  # where stdout carries an array

Urls = Annotated[
    list[str] | None,
    typer.Option("--url", help="The server, or one of several; MATFN_URL, then http://127.0.0.1:8000, by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table and of failures.")]


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
    """Matrix functions as a service: certified roots, logarithms, polar factors and matrix equations in batches."""
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
def functions(urls: Urls = None, as_json: AsJson = False) -> None:
    """List the functions with their inputs and parameters: this version's, or with --url a server's."""
    document = _catalogue()
    if urls:
        with told_as(_form(as_json)), explained(), _client(urls) as client:
            document = client.functions()
    if as_json:
        typer.echo(json.dumps(document))
    else:
        _out.print(tables.functions_table(document))


def _catalogue() -> dict[str, Any]:
    """The functions and options of this version, as GET /v1/functions gives them beside a server's limits."""
    return {
        "functions": [described(entry) for entry in FUNCTIONS.values()],
        "options": [asdict(option) for option in OPTIONS],
    }


def _form(as_json: bool) -> Form:
    return Form.JSON if as_json else Form.WORDS


@app.command()
def status(urls: Urls = None, as_json: AsJson = False) -> None:
    """Show the device, queues, workers and version of a server."""
    with told_as(_form(as_json)), explained(), _client(urls) as client:
        document = client.status()
    if as_json:
        typer.echo(json.dumps(document))
    else:
        _out.print(tables.status_table(document))


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
def bench(
    urls: Urls = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--shapes", help=f"{', '.join(PRESETS)}, or inv_root, root or msign as inv_root:16x64x64:float32."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one window of measurement.")] = 2.0,
) -> None:
    """Measure throughput, latency and its parts on a server, and whether this machine's LAPACK would be faster."""
    try:
        workloads = [workload_of(name) for name in shapes or PRESETS]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with explained(), _client(urls) as client:
        for workload in workloads:
            measured = measure(client, workload, window=seconds, clock=time.perf_counter, cpu=time.thread_time)
            _out.print(tables.bench_table(workload, measured))
            _out.print(Text(verdict(workload, measured)), soft_wrap=True)


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


def _run(job: Job, wanted: Wanted) -> None:
    """Answers one call; saves its values, or prints them with their certificates."""
    with explained(), _client(wanted.urls, local=wanted.local) as client:
        answer = client.ask(job)
    outputs = dict(zip(results_of(ENTRIES[job.function], job), outputs_of(answer.value), strict=True))
    targets = wanted.targets
    if not targets and not wanted.as_json:
        large = [name for name, value in outputs.items() if not tables.is_small(value)]
        targets = spare_targets(job.function.replace("/", "."), large)
    write_arrays(targets, outputs)
    if wanted.as_json:
        typer.echo(answer_json(job.function, answer, outputs, targets), err=STANDARD in targets.values())
    else:
        _print_answer(job.function, answer, outputs, targets)


def _print_answer(function: str, answer: Answer[Any], outputs: Mapping[str, Any], targets: Mapping[str, Path]) -> None:
    """Certificates, the values that no file holds, and the files."""
    console = _beside if STANDARD in targets.values() else _out
    console.print(tables.certificates_table(function, answer))
    if printed := {name: value for name, value in outputs.items() if name not in targets}:
        console.print(tables.values_text(printed), soft_wrap=True)
    for name, path in targets.items():
        console.print(Text(f"wrote {name} to {'stdout' if path == STANDARD else path}"), soft_wrap=True)


def _verify(job: Job, wanted: Wanted) -> None:
    """Prints the certificates of a claimed answer; exit code 1 unless all are converged."""
    with explained(), _client(wanted.urls, local=wanted.local) as client:
        answer = client.ask(job)
    if wanted.as_json:
        typer.echo(answer_json(job.function, answer, {}, {}))
    else:
        _out.print(tables.certificates_table(job.function, answer))
    if any(certificate.outcome != "converged" for certificate in answer.certificates):
        raise typer.Exit(Exit.REJECTED)


add_functions(run_app, FUNCTIONS.values(), _run)
add_functions(verify_app, (entry for entry in ENTRIES.values() if entry.claims), _verify)
add_functions(vjp_app, (entry for entry in ENTRIES.values() if entry.gradients), _run)


def _client(urls: list[str] | None, *, local: bool = False) -> Client | LocalClient:
    try:
        return LocalClient() if local else Client(urls or None)
    except ImportError as error:
        fail("cannot start", str(error), exit_code=Exit.UNSERVED)
    except ValueError as error:
        fail("cannot start", str(error), exit_code=Exit.UNUSABLE)
