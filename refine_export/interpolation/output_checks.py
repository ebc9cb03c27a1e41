"""Refuse an output that cannot be written, before any work is done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from refine_export.data.picture_sequences import PATTERN, files_of
from refine_export.data.video import PIPE
from refine_export.errors import RequestError
from refine_export.interpolation.encoders import Settings, is_video
from refine_export.support.files import make_folder, same_file


def check_output(output: Path, sources: tuple[Path, ...], *, force: bool) -> None:
    """Refuse to overwrite, before any work is done."""
    if output == PIPE:
        return
    if output.is_dir():
        raise RequestError.about(output, "is-directory", "is a directory; give the name of the file to write")
    if any(same_file(source, output) for source in sources):
        raise RequestError.about(output, "output-is-input", "is what is read; give another output")
    if PATTERN.search(output.name):
        found = files_of(output, least=0) if output.parent.is_dir() else []
        exists, replaceable = bool(found), not any(same_file(one, found[0].parent) for one in sources if found)
    else:
        exists, replaceable = os.path.lexists(output), output.is_file() or output.is_symlink()
    if exists and not (force and replaceable):
        raise RequestError.about(output, "output-exists", "exists; give another output, or overwrite it with --force")
    make_folder(output.parent)


def check_space(output: Path, settings: Settings, frames: int) -> None:
    """Refuse an output that the disk cannot hold; a video's parts and the video are there at the same time."""
    if output == PIPE:
        return
    needed = settings.least_bytes(frames) * (2 if is_video(output) else 1)
    free = shutil.disk_usage(output.parent).free
    if free < needed:
        raise RequestError.about(
            output,
            "no-space",
            f"takes {needed / 1e6:,.1f} MB or more on the way, and {free / 1e6:,.1f} MB are free; free some space, or "
            "choose another folder",
            needed=needed,
            free=free,
        )
