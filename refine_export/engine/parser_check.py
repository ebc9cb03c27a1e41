"""The answer of TensorRT's own parser to ONNX files, node by node, without building anything.

It is asked in a child process, which alone imports the library: what strangers' files do to the parser stays there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from refine_export.engine.bindings import MODULES, Library, Log, builder_of, load_library
from refine_export.engine.build_options import Target
from refine_export.engine.parse_network import ParserFault, parse_onnx
from refine_export.errors import UnavailableError
from refine_export.support.child_process import Report, run_child, serve
from refine_export.support.imports import pip_install
from refine_export.support.progress import Silent
from refine_export.support.text import counted, json_safe

_TIME_LIMIT_S: Final = 60
"""Limit of all files together; a file of 10,000 nodes takes a second."""


@dataclass(frozen=True, kw_only=True)
class ParserAnswer:
    """Answer of a parser to a file."""

    library: str | None
    """Library and version, such as `TensorRT for RTX 1.7.1`; None where no parser answered."""
    faults: tuple[ParserFault, ...] = ()
    """Errors of the parser; without any, it takes the file."""
    missing: str = ""
    """Why no parser answered."""

    @property
    def conclusion(self) -> str:
        """The answer in a line."""
        if self.library is None:
            return f"not parsed by TensorRT: {self.missing}"
        if not self.faults:
            return f"{self.library} takes this file (parsed; nothing was built)"
        return f"{self.library} refuses this file: {counted(len(self.faults), 'error')}"


def ask_parser(files: Sequence[Path]) -> list[ParserAnswer]:
    """Ask the parser of TensorRT, or of TensorRT for RTX where TensorRT is not installed or finds no GPU.

    Args:
        files: ONNX files whose external data have been checked to lie in their folders.
    """
    targets = [target for target, module in MODULES.items() if find_spec(module) is not None]
    if not targets:
        missing = f"neither tensorrt nor tensorrt-rtx is installed: {pip_install('rtx')}"
        return [ParserAnswer(library=None, missing=missing)] * len(files)
    request = {"files": [str(path.absolute()) for path in files], "targets": targets}
    with tempfile.TemporaryDirectory() as folder:
        try:
            answer = run_child(__name__, request, Path(folder), Silent(), time_limit_s=_TIME_LIMIT_S)
        except UnavailableError as error:
            return [ParserAnswer(library=None, missing=str(error))] * len(files)
    return [
        ParserAnswer(library=answer["library"], faults=tuple(ParserFault(**fault) for fault in faults))
        for faults in answer["faults"]
    ]


def work(content: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Do the child's work; the arguments and the answer are `serve`'s."""
    library, log, builder = _first_usable(content["targets"])
    faults = []
    for path in map(Path, content["files"]):
        report("stage", f"parse {path.name}")
        faults.append(parse_onnx(library.module, builder, log, path.read_bytes(), path)[1])
    return {"library": library.title, "faults": json_safe(faults)}


def _first_usable(targets: Sequence[Target]) -> tuple[Library, Log, Any]:
    """The first library that has a parser here: enterprise TensorRT wants a GPU even for that."""
    first, *others = targets
    try:
        library = load_library(first)
        log = Log(library.module)
        return library, log, builder_of(library.module, log)
    except UnavailableError:
        if not others:
            raise
        return _first_usable(others)


if __name__ == "__main__":
    serve(work)
