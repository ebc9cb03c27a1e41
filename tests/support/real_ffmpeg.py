"""The program ffmpeg, for files and pipes as people make them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="the program ffmpeg is missing: apt install ffmpeg")


def ffmpeg(arguments: str, folder: Path) -> None:
    """Run it in a folder."""
    command = ["ffmpeg", "-loglevel", "error", "-y", "-nostdin", *shlex.split(arguments)]
    subprocess.run(command, cwd=folder, check=True, timeout=60, stderr=subprocess.PIPE)


def ffprobe(path: Path, entries: str) -> str:
    """Return what ffprobe says of a file, without labels."""
    command = ["ffprobe", "-loglevel", "error", "-of", "csv=p=0", "-show_entries", *shlex.split(entries), str(path)]
    return subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout.strip()
