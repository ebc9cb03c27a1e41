"""The script that sets up and starts a real server: once, whole or not at all, and nothing is left of it."""

import os
import subprocess
from pathlib import Path

import pytest
import triton_server
from triton_server import CannotServeError, serve
from triton_setup import set_up

from tests.support.triton_models import ECHO, add_model


@pytest.fixture
def repository(tmp_path):
    add_model(tmp_path / "models", "echo", ECHO)
    return tmp_path / "models"


def test_without_packages_nothing_is_left_behind(monkeypatch, tmp_path):
    refused = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: no route to the index\n")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: refused)
    with pytest.raises(CannotServeError, match=r"numpy==.* cannot be installed here: ERROR: no route"):
        set_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_nothing_is_left_of_a_server(triton_installation, repository):
    with serve(repository) as server:
        assert len(server.stubs()) == 1
        prefix = server._prefix
        assert list(Path("/dev/shm").glob(f"{prefix}*"))
        server.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
    assert not server.stubs()
    assert not list(Path("/dev/shm").glob(f"{prefix}*"))


def test_a_port_that_is_taken(triton_installation, repository, monkeypatch):
    """An error where it was asked for; a free one that is taken meanwhile is replaced."""
    with serve(repository, ()) as server:
        taken = int(server.http_url.rpartition(":")[2])
        with pytest.raises(CannotServeError, match="already in use"), serve(repository, (), http_port=taken):
            pass
        ports = [taken, *(triton_server.free_port() for _ in range(5))]
        monkeypatch.setattr(triton_server, "free_port", lambda: ports.pop(0))
        with serve(repository, ()) as other:
            assert other.http_url != server.http_url
            other.kill()
        server.kill()


def test_a_folder_without_models_is_not_served(triton_installation, tmp_path):
    """An empty server says that it is ready, and a user who gave the wrong folder would believe it."""
    with pytest.raises(CannotServeError, match="has no model: no folder in it has a config.pbtxt"), serve(tmp_path):
        pass


def test_a_model_that_does_not_load(triton_installation, repository):
    add_model(repository, "wrong", "import nothing_of_this_name")
    path = repository / "wrong" / "1" / "model.py"
    path.write_text("import nothing_of_this_name\n" + path.read_text())
    with pytest.raises(CannotServeError, match="nothing_of_this_name"), serve(repository, ["wrong"]):
        pass
    with serve(repository, ["echo"]) as server:
        with pytest.raises(CannotServeError, match="nothing_of_this_name"):
            server.load("wrong")
        with pytest.raises(CannotServeError, match="none"):
            server.load("none")
        server.kill()
