"""A real Triton server for tests and demos on a CPU: tritonserver 2.51 of a wheel, in an environment of its own.

python scripts/triton_server.py sets it up and starts it; nothing of it is needed by the package. The wheel
nvidia-pytriton carries the server with its python backend. That backend's stub reads zeros from arrays of numpy 2, so
numpy 1 lies in an environment of its own. Models for ONNX Runtime are served by the package's own model.py.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".triton"
MODEL = ROOT / "refine_export" / "deploy" / "triton" / "python_model" / "model.py"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
WHEEL = "nvidia-pytriton==0.7.0 --hash=sha256:21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
LAYOUT = "1"  # version of the folder's layout
PACKAGES = ("numpy==1.26.4", "onnxruntime==1.31.1")
LIBRARIES = (
    "pytriton/tritonserver",
    "nvidia_pytriton.libs",
)  # side by side: the server finds the second from the first


class CannotServeError(Exception):
    """The server cannot be set up on this machine, or did not start."""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A server that is ready to be started."""

    folder: Path

    @property
    def server(self) -> Path:
        """Path of the program."""
        return self.folder / "server" / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """Folder of the backends."""
        return self.folder / "server" / "pytriton" / "tritonserver" / "backends"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the server: few, so that this process's Python does not leak into its stubs."""
        return {
            "PATH": f"{self.folder / 'environment' / 'bin'}:/usr/bin:/bin",
            "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def set_up(home: Path = HOME) -> Installation:
    """Download and assemble the server, unless it exists already; two processes wait for each other.

    Args:
        home: a folder for it; about 300 MB.

    Raises:
        CannotServeError: not Linux on x86-64, or the packages cannot be installed.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CannotServeError(
            f"the wheel with tritonserver is for Linux on x86-64; this is {sys.platform} on {platform.machine()}"
        )
    key = hashlib.sha256("\n".join((LAYOUT, WHEEL, *PACKAGES, sys.version)).encode()).hexdigest()
    home.mkdir(parents=True, exist_ok=True)
    folder = home.resolve() / f"{PYTHON}-{key[:12]}"
    with _locked(home / "lock"):
        if not folder.is_dir():
            for left_over in home.glob("partial-*"):
                shutil.rmtree(left_over)
            partial = Path(tempfile.mkdtemp(prefix="partial-", dir=home))
            try:
                _put_together(Installation(folder=partial))
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return Installation(folder=folder)


def _put_together(made: Installation) -> None:
    environment, server = made.folder / "environment", made.folder / "server"
    venv.create(environment, with_pip=False)
    packages = environment / "lib" / f"python{PYTHON}" / "site-packages"
    _pip(packages, "\n".join(PACKAGES))
    _pip(server, WHEEL, "--require-hashes")
    for found in server.iterdir():
        if found.name not in {library.partition("/")[0] for library in LIBRARIES}:
            shutil.rmtree(found)
    stubs = made.backends.parent / "python_backend_stubs"
    stub = stubs / PYTHON / "triton_python_backend_stub"
    if not stub.is_file():
        known = ", ".join(sorted(path.name for path in stubs.iterdir()))
        raise CannotServeError(f"the wheel has no python backend for Python {PYTHON}; it has them for {known}")
    shutil.copy(stub, made.backends / "python")
    (made.backends / "python" / stub.name).chmod(0o755)
    made.server.chmod(0o755)
    (made.backends / "onnxruntime").mkdir()
    (made.backends / "onnxruntime" / "model.py").symlink_to(MODEL)


def _pip(target: Path, requirements: str, *options: str) -> None:
    """Install wheels without their dependencies."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--retries", "2", "--no-deps", "--only-binary", ":all:", "--target", str(target)]
        done = subprocess.run([*command, *options, "-r", file.name], capture_output=True, text=True, check=False)
    if done.returncode:
        named = ", ".join(line.partition(" ")[0] for line in requirements.splitlines())
        errors = " ".join(line for line in done.stderr.splitlines() if line.startswith("ERROR")) or done.stderr[-500:]
        raise CannotServeError(f"{named} cannot be installed here: {errors}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
