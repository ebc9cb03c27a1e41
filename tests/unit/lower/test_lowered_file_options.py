"""Options and outputs of `lower`: what is refused, and that what exists already is not lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from refine_export.lower import lowered_file
from tests.support.lower_files import here_fixture, refused_fixture, run_fixture, saved, tiny  # noqa: F401 (fixtures)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "nonsense"], ('lower.precision is "nonsense"', "'fp16'")),
        (
            ["--io", "int8"],
            'lower.io is "int8"',
        ),
        (["--gridsample", "magic"], 'lower.gridsample is "magic"'),
        (["--target-psnr", "50", "--precision", "fp32"], "precision is fp32, where there is nothing to search for"),
        (["--io", "fp16", "--precision", "fp32"], "precision is fp32, with io = fp16; expected io = fp32"),
        (["--target-psnr", "-3"], "target_psnr_db is -3.0; expected decibels between 0 and 400"),
        (["--target-psnr", "nan"], "target_psnr_db is nan"),
        (["--max-error", "2"], "max_error is 2.0; expected a number between 0 and 1"),
        (["--frames", "a.png", "b.png"], "a.png does not exist"),
        (["--calibrate", "absent.npz"], "absent.npz does not exist"),
    ],
)
def test_options_that_are_refused(refused, arguments, words):
    """A wrong value is named as the recipe names it, with what is expected."""
    refused(saved(tiny()), "-o", "out.onnx", *arguments, words=words)


@pytest.mark.parametrize("lost", ["out.onnx", "out.onnx.json"])
def test_what_is_there_is_not_overwritten(refused, run, here, lost):
    """Neither the file nor its manifest, without --force: not a byte; with it, both are new."""
    path = saved(tiny())
    Path(lost).write_text("mine")
    refused(path, "-o", "out.onnx", words=(f"{lost} exists already", "overwrite it with --force"))
    assert run(path, "-o", "out.onnx", "--force")[0] == 0
    assert Path(lost).read_bytes() != b"mine"


def test_the_file_itself_is_not_overwritten(refused, here):
    """By no name and not with --force: IN and OUT are one file, through a link or a folder's other name too."""
    path = saved(tiny())
    Path("link.onnx").symlink_to(path)
    for output in ("in.onnx", "./in.onnx", here / "in.onnx", "link.onnx"):
        refused(path, "-o", output, "--force", words=("is the file to be lowered itself", "another name with --output"))


def test_a_folder_that_can_not_be_made(refused, run, here):
    """It is refused before any work; one that can be is made, with those above it."""
    path = saved(tiny())
    Path("file").write_text("no folder")
    refused(path, "-o", "file/out.onnx", words=("file cannot be written", "choose another"))
    assert "read in.onnx" not in run(path, "-o", "file/out.onnx")[2]
    assert run(path, "-o", "new/folder/out.onnx")[0] == 0
    Path("folder.onnx").mkdir()
    refused(path, "-o", "folder.onnx", "--force", words="'folder.onnx', which is a folder")


@pytest.mark.parametrize("place", ["replace", "fsync"])
def test_an_interrupted_write_leaves_the_old_file(run, here, monkeypatch, place):
    """A full disk or a crash while writing: the old file and its manifest stay, and nothing else is left behind."""
    path = saved(tiny())
    assert run(path, "-o", "out.onnx")[0] == 0
    before = {file.name: file.read_bytes() for file in here.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path if place == "replace" else os, place, full)
    code, _, err = run(path, "-o", "out.onnx", "--force", "--io", "fp16")
    assert code == 2
    assert "error: out.onnx cannot be written: No space left on device" in err
    assert {file.name: file.read_bytes() for file in here.iterdir()} == before


def test_an_interrupt_leaves_the_old_file(run, here, monkeypatch):
    """Ctrl-C in the middle of the work: exit code 130, the old file as it was."""
    path = saved(tiny())
    assert run(path, "-o", "out.onnx")[0] == 0
    before = {file.name: file.read_bytes() for file in here.iterdir()}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(lowered_file, "check_lowered", interrupted)
    code, _, err = run(path, "-o", "out.onnx", "--force", "--io", "fp16")
    assert code == 130
    assert "interrupted" in err
    assert {file.name: file.read_bytes() for file in here.iterdir()} == before
