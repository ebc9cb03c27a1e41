import errno
import os
from pathlib import Path

import pytest

from refine_export.errors import FrameError, RequestError
from refine_export.support.files import (
    atomic_path,
    check_input_file,
    make_folder,
    replace_folder,
    user_path,
    write_bytes,
    write_text,
)
from tests.support.refusals import refused


def test_user_path(tmp_path, monkeypatch):
    assert user_path("~/a") == Path.home() / "a"
    for bad in ("", "~no-such-user/x", "a\0b", "\ud800"):
        with refused("bad-path", RequestError):
            user_path(bad)
    with refused("cannot-read", RequestError):
        user_path("a" * 300)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    assert user_path(f"{tmp_path}/new") == tmp_path / "new"
    with refused("cannot-read", RequestError, path=tmp_path):
        user_path(str(tmp_path))
    assert user_path(str(tmp_path), read=False) == tmp_path


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "first")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("wrong", [RuntimeError("stopped"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_an_unfinished_file_leaves_the_old_one(tmp_path, wrong):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise wrong

    with pytest.raises((type(wrong), RequestError)) as caught:
        write()
    assert isinstance(wrong, OSError) == (getattr(caught.value, "code", "") == "cannot-write")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_not_utf8_is_written_as_python_shows_it(tmp_path):
    """So do reports of files whose names have other bytes."""
    write_text(tmp_path / "a.html", os.fsdecode(b"\xff.onnx"))
    assert (tmp_path / "a.html").read_text() == "\\udcff.onnx"


def test_left_overs_of_dead_writers_are_removed(tmp_path):
    for pid in (2**22 + 1, os.getppid()):
        (tmp_path / f".file[1].txt.partial-{pid}").touch()
    write_text(tmp_path / "file[1].txt", "x")
    assert {path.name for path in tmp_path.iterdir()} == {"file[1].txt", f".file[1].txt.partial-{os.getppid()}"}


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with refused("is-directory", RequestError):
        write_text(tmp_path, "x")
    os.mkfifo(tmp_path / "device")
    with refused("not-a-file", RequestError):
        write_text(tmp_path / "device", "x")
    assert (tmp_path / "device").is_fifo()
    with refused("cannot-write", RequestError):
        write_text(tmp_path / "file" / "x", "x")
    with refused("cannot-write", RequestError):
        make_folder(tmp_path / "file")


def make_folder_with(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = make_folder_with(tmp_path / "folder", "old")
    (path / "more").touch()
    with replace_folder(path) as new:
        (new / "file").write_text("new")
        assert (path / "file").read_text() == "old"
    assert [file.name for file in path.iterdir()] == ["file"]
    assert (path / "file").read_text() == "new"
    with replace_folder(tmp_path / "above" / "absent"):
        pass
    assert (tmp_path / "above" / "absent").is_dir()


@pytest.mark.parametrize("error", [OSError(13, "Permission denied"), KeyboardInterrupt()])
@pytest.mark.parametrize("first", [True, False])
def test_a_folder_keeps_its_name_when_a_rename_ends_early(tmp_path, monkeypatch, error, first):
    """An error or Ctrl-C in the second rename, or right after the first."""
    path = make_folder_with(tmp_path / "folder", "old")
    rename = Path.rename

    def ends_early(self, target):
        if target.name == "old" and first:
            rename(self, target)
            raise error
        if self.name == "new":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", ends_early)
    with pytest.raises((RequestError, KeyboardInterrupt)) as caught, replace_folder(path):
        pass
    assert getattr(caught.value, "code", "cannot-write") == "cannot-write"
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
    assert (path / "file").read_text() == "old"


@pytest.mark.parametrize("path_is_there", [True, False])
def test_folders_of_killed_writers_are_removed(tmp_path, path_is_there):
    """What one has taken away is brought back, as one that fails must leave it."""
    path = tmp_path / "fol[der]"
    if path_is_there:
        make_folder_with(path, "old")
    for pid in (2**22 + 1, os.getppid()):
        (tmp_path / f".fol[der].work-{pid}-x").mkdir()
    make_folder_with(tmp_path / f".fol[der].work-{2**22 + 1}-x" / "old", "older" if path_is_there else "old")
    with pytest.raises(ZeroDivisionError), replace_folder(path):
        raise ZeroDivisionError
    assert {one.name for one in tmp_path.iterdir()} == {"fol[der]", f".fol[der].work-{os.getppid()}-x"}
    assert (path / "file").read_text() == "old"


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").touch()
    check_input_file(tmp_path / "file", FrameError, "give a file")
    for path, code in (
        (tmp_path / "x", "not-found"),
        (tmp_path, "is-directory"),
        (Path("/dev/null"), "not-a-file"),
        (tmp_path / ("a" * 300), "cannot-read"),
    ):
        with refused(code, FrameError, path=path):
            check_input_file(path, FrameError, "give a file")
