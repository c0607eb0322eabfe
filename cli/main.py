"""The `avpipe` command: mounts one thin file per command group and turns errors into one line and an exit code.

Nothing heavy is imported here: `avpipe --help` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from avpipe.cli import render
from avpipe.cli.backbones import app as backbones_app
from avpipe.cli.bench import app as bench_app
from avpipe.cli.cache import app as cache_app
from avpipe.cli.data import app as data_app
from avpipe.cli.demo import demo_command
from avpipe.cli.doctor import doctor_command
from avpipe.cli.evaluate import evaluate_command
from avpipe.cli.extract import extract_command
from avpipe.cli.quarantine import app as quarantine_app
from avpipe.cli.report import report_command
from avpipe.cli.score import score_command
from avpipe.cli.status import status
from avpipe.cli.train import train_command
from avpipe.pipeline.errors import AvpipeError, EnvironmentLacking

app = typer.Typer(
    name="avpipe",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Run frozen audio-visual backbones once, cache every tapped layer, train light heads from the cache.",
    epilog="Exit codes: 0 ok, 1 unexpected, 2 usage, 3 finished with quarantined inputs, 4 cache/spec mismatch, "
    "5 corruption found, 6 environment lacking, 130 interrupted.",
)


EXIT_PIPE = 141
"""As of other programs whose output nobody reads any more: 128 and the number of SIGPIPE."""


def _show_version(wanted: bool) -> None:
    if wanted:
        render.line(f"avpipe {version('avpipe')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    render.install_reporter()


app.command("demo")(demo_command)
app.command("extract")(extract_command)
app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
app.command("score")(score_command)
app.command("report")(report_command)
app.command("status")(status)
app.command("doctor")(doctor_command)
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(backbones_app, name="backbones")
app.add_typer(bench_app, name="bench")


def run() -> None:
    """Entry point of the `avpipe` program."""
    try:
        app()
    except SystemExit as end:
        _end_output(end.code)
        raise
    except render.OutputClosed:
        _end_output(None)
        sys.exit(EXIT_PIPE)
    except AvpipeError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno is None or (error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT)):
            raise
        place = f": {error.filename}" if error.filename else ""
        hint = "nothing committed was lost; mend that, or name another folder, and run the same command again"
        _fail(f"{os.strerror(error.errno)}{place}; {hint}", EnvironmentLacking.exit_code)


def _end_output(code: object) -> None:
    """Writes what is left of stdout; where nobody reads it, drops it quietly, and a failure keeps its exit code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        if not code:
            sys.exit(EXIT_PIPE)


def _fail(message: str, code: int) -> None:
    print(f"avpipe: {message}", file=sys.stderr, flush=True)
    sys.exit(code)
