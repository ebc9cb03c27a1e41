"""A wheel that pip finds in a folder, without a network; and a pip that starts faster."""

import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from refine_export.support.wheels import Wheel
from tests.support.paths import names_in

PACKAGE = "weightless==1.0"
METADATA = {
    "weightless-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: weightless\nVersion: 1.0\n",
    "weightless-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "weightless-1.0.dist-info/RECORD": "",
}


def fake_wheel(tmp_path, monkeypatch, members):
    """Write a wheel with these members, let pip see nothing else, and set an empty cache folder."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "weightless-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in (members | METADATA).items():
            wheel.writestr(name, content)
    monkeypatch.setenv("REFINE_EXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return Wheel(package=PACKAGE, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size_bytes=1, licence="MIT")


def copy_as_pip_does(command, **_):
    """Stand for `pip download`: all that it does with a folder of wheels."""
    found = list(Path(os.environ.get("PIP_FIND_LINKS", "/nowhere")).glob("*.whl"))
    for wheel in found:
        shutil.copy(wheel, command[command.index("--dest") + 1])
    return subprocess.CompletedProcess(command, 0 if found else 1, "", "" if found else "ERROR: No matching package\n")


def files_in(folder):
    return names_in(folder) if folder.exists() else []
