"""The program ffmpeg, for files and pipes as people make them."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="the program ffmpeg is missing: apt install ffmpeg")


def ffmpeg(arguments: str, folder: Path) -> None:
    """Run it in a folder."""
    command = ["ffmpeg", "-loglevel", "error", "-y", "-nostdin", *shlex.split(arguments)]
    subprocess.run(command, cwd=folder, check=True, timeout=60, stderr=subprocess.PIPE)


def ffprobe(path: Path) -> dict[str, Any]:
    """Return what ffprobe says of a file: format, streams, chapters and frames."""
    what = "-show_format -show_streams -show_chapters -show_frames"
    command = ["ffprobe", "-loglevel", "error", "-of", "json", *what.split(), str(path)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, timeout=60, capture_output=True).stdout)
    return found
