"""Where an engine goes: the files beside it, what may be overwritten, and all of it written whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from refine_export.atomic import atomic_path, write_text
from refine_export.engine.plan import seems_plan
from refine_export.errors import RequestError
from refine_export.manifest import Manifest, manifest_path, text_of_manifest

LONGEST_NAME = 200
"""Bytes, so that the names beside it, and those of temporary files, fit into 255."""
TRTEXEC, POLYGRAPHY, GATHER = ".trtexec.sh", ".polygraphy.sh", ".gather.onnx"
"""What is behind a plan's name in those of the files beside it."""


def check_engine_output(output: Path, *, sources: Sequence[Path], force: bool) -> None:
    """Refuse to overwrite what is no engine, before any work is done; engines are replaced when the new one is whole.

    Args:
        output: the plan.
        sources: files that are read.
        force: overwrite other files.

    Raises:
        RequestError: `output`, or a file beside it, is a source, a folder or a file that is no engine's.
    """
    if not output.name or output.is_dir():
        raise RequestError(f"output is {str(output)!r}, which is a folder; expected the name of the plan to write")
    if len(os.fsencode(output.name)) > LONGEST_NAME:
        raise RequestError(f"the name {output.name[:40]}... is too long; expected at most {LONGEST_NAME} bytes")
    beside = [manifest_path(output), *(output.with_name(output.name + end) for end in (TRTEXEC, POLYGRAPHY, GATHER))]
    engine = seems_plan(output)
    for path in (output, *beside):
        if path.exists() and not path.is_file():
            raise RequestError(f"{path} is no regular file; choose another name with --output")
        for source in sources:
            if path.exists() and source.exists() and source.samefile(path):
                raise RequestError(f"{path} is read, and would be overwritten; give another name with --output")
        if os.path.lexists(path) and not engine and not force:
            what = "is no TensorRT plan" if path == output else f"is there without {output.name}"
            raise RequestError(f"{path} {what}; choose another name with --output, or overwrite it with --force")


def write_engine(output: Path, plan: bytes, manifest: Manifest, scripts: Mapping[str, str]) -> None:
    """Write a plan and its manifest: both, or, where the disk is full, neither; then the scripts (name to text)."""
    with atomic_path(output) as new_plan, atomic_path(manifest_path(output)) as new_manifest:
        new_plan.write_bytes(plan)
        new_manifest.write_text(text_of_manifest(manifest), encoding="utf-8")
    for name, text in scripts.items():
        write_text(output.with_name(name), text)
