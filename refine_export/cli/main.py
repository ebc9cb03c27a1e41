"""The command line: its verbs, and the one place where errors become exit codes.

Exit codes: 0 passed, 1 the verdict is failed, 2 the request was wrong, 3 this machine lacks something that was
required, 70 a bug of this tool.
"""

import logging
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from refine_export import __version__
from refine_export.cli.render.console import clean
from refine_export.cli.verbs.bisect import bisect
from refine_export.cli.verbs.build import build
from refine_export.cli.verbs.deploy import app as deploy
from refine_export.cli.verbs.doctor import doctor
from refine_export.cli.verbs.export import export
from refine_export.cli.verbs.gate import gate
from refine_export.cli.verbs.init import init
from refine_export.cli.verbs.inspect import inspect
from refine_export.cli.verbs.interpolate import interpolate
from refine_export.cli.verbs.lint import lint
from refine_export.cli.verbs.lower import lower
from refine_export.cli.verbs.refit import refit
from refine_export.cli.verbs.run import run
from refine_export.cli.verbs.validate import validate
from refine_export.errors import InternalError, RefineExportError, RequestError, UnavailableError

INTERRUPTED = 130

app = typer.Typer(
    name="refine-export",
    help="RIFE frame interpolation from a PyTorch checkpoint to ONNX, and TensorRT, proven equal to the reference.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"refine-export {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for verb in (run, init, inspect, export, lower, build, refit, lint, validate, gate, bisect):
    app.command()(verb)
app.add_typer(deploy)
app.command()(interpolate)
app.command()(doctor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; the one place where errors become exit codes."""
    logging.getLogger("onnx_ir").addHandler(logging.NullHandler())
    logging.getLogger("onnx_ir").propagate = False  # it prints names of files as they are
    try:
        app(arguments)
    except SystemExit as exit_:
        if exit_.code == INTERRUPTED:
            typer.echo(
                "interrupted: what was not finished is not written; the same command makes it",
                err=True,
            )
        raise
    except RefineExportError as error:
        kind = {2: "error", 3: "missing"}.get(error.exit_code, "bug in refine-export")
        typer.echo(f"{kind}: {clean(str(error))}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {clean(named)}{error.strerror or error}; check the path and its permissions", err=True)
        sys.exit(RequestError.exit_code)
    except MemoryError:
        typer.echo("missing: there is not enough memory; use a smaller size or batch", err=True)
        sys.exit(UnavailableError.exit_code)
    except Exception:
        traceback.print_exc()
        typer.echo("bug in refine-export: please report it with the lines above", err=True)
        sys.exit(InternalError.exit_code)


def program() -> None:
    """The console script: as `main`, but signals end it as they end any other program, and leave nothing half-done."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for ending in (signal.SIGTERM, signal.SIGHUP):  # nothing half-written is left by these either
            if signal.getsignal(ending) is signal.SIG_DFL:
                signal.signal(ending, signal.default_int_handler)
    main()


if __name__ == "__main__":
    program()
