"""Timing caches come back whole or not at all, say why, and lose nothing to a build beside them."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from refine_export.engine import timing_cache
from refine_export.engine.bindings import Log
from refine_export.engine.timing_cache import CacheKey, merge_by, read_cache, write_cache
from tests.support.fake_tensorrt import make_fake

VERSIONS = ("10.16.1", "11.4.0")
KEY = CacheKey(tensorrt="11.4.0", gpu="NVIDIA H200", compute_capability="9.0")


def seam(monkeypatch: pytest.MonkeyPatch, version: str, **behaviour: Any) -> tuple[Any, Any, Log]:
    """The fake, a configuration, and the log."""
    fake = make_fake(version, **behaviour)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    log = Log(fake)
    return fake, fake.Builder(log.logger).create_builder_config(), log


def cache(config: Any, **entries: float) -> bytes:
    """A cache of the fake's own kind."""
    made = config.create_timing_cache(b"")
    made._entries.update(entries)
    return bytes(made.serialize())


def entries(content: bytes) -> dict[str, float]:
    found: dict[str, float] = json.loads(content.removeprefix(b"ftcache:"))["entries"]
    return found


# ---------------------------------------------------------------------------------------------- keys and files


def test_each_key_has_its_own_readable_file() -> None:
    others = [
        dataclasses.replace(KEY, tensorrt="11.4.1"),
        dataclasses.replace(KEY, gpu="NVIDIA H200 NVL"),
        dataclasses.replace(KEY, gpu="NVIDIA-H200"),  # the same readable part
        dataclasses.replace(KEY, compute_capability="9.1"),
    ]
    names = {key.file_name for key in (KEY, *others)}
    assert len(names) == 5
    assert KEY.file_name.startswith("11.4.0-NVIDIA-H200-sm9.0-")
    assert all("/" not in dataclasses.replace(KEY, gpu=gpu).file_name for gpu in ("a/../b", "x" * 500))
    assert len(dataclasses.replace(KEY, gpu="x" * 500).file_name) < 120


def test_a_cache_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert write_cache(folder, KEY, b"one\ntwo\n") == []
    assert read_cache(folder, KEY) == (b"one\ntwo\n", [])


def test_no_cache_yet_is_said(tmp_path: Path) -> None:
    content, notes = read_cache(tmp_path, KEY)
    assert content == b""
    assert "no timing cache of 11.4.0 on NVIDIA H200 yet" in notes[0]
    assert write_cache(tmp_path, KEY, b"") == ["the build has no timing cache: nothing was saved"]
    assert not list(tmp_path.glob("*.timing"))


# ---------------------------------------------------------------------------------------------- damage


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flipped, "damaged"),
        (lambda content: content[:-1], "damaged"),
        (lambda content: content + b"x", "damaged"),
        (lambda content: content.partition(b"\n")[0] + b"\n", "damaged"),
        (lambda content: content.partition(b"\n")[0], "damaged"),
        (lambda content: content.partition(b"\n")[2], "no timing cache of this tool"),
        (lambda content: b"", "no timing cache of this tool"),
        (lambda content: b"\x00\xff" * 50, "no timing cache of this tool"),
        (lambda content: b"[" * 100_000, "no timing cache of this tool"),
        (lambda content: b"[1]\nx", "no timing cache of this tool"),
        (lambda content: content.replace(b"NVIDIA H200", b"NVIDIA L4"), "of gpu NVIDIA L4, not NVIDIA H200"),
        (lambda content: content.replace(b'"11.4.0"', b'"10.16.1"'), "of tensorrt 10.16.1, not 11.4.0"),
    ],
)
def test_what_is_not_whole_or_foreign_is_said_and_rebuilt(damage: Any, words: str, tmp_path: Path) -> None:
    """It is neither used nor merged, and the next write replaces it."""
    write_cache(tmp_path, KEY, b"timings")
    path = tmp_path / KEY.file_name
    path.write_bytes(damage(path.read_bytes()))
    content, notes = read_cache(tmp_path, KEY)
    assert content == b""
    assert words in notes[0]
    assert "rebuilt" in notes[0]
    assert str(path) in notes[0]
    notes = write_cache(tmp_path, KEY, b"new", merge=lambda ours, other: pytest.fail("merged with what is damaged"))
    assert words in notes[0]
    assert read_cache(tmp_path, KEY) == (b"new", [])


def test_a_file_that_can_not_be_read_or_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / KEY.file_name).mkdir()
    assert "can't be read" in read_cache(tmp_path, KEY)[1][0]
    assert "was not saved" in write_cache(tmp_path, KEY, b"x")[-1]
    (tmp_path / "file").write_text("")
    assert "was not saved" in write_cache(tmp_path / "file", KEY, b"x")[-1]

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    other = tmp_path / "other"
    write_cache(other, KEY, b"old")
    monkeypatch.setattr(Path, "write_bytes", full)
    assert "No space left" in write_cache(other, KEY, b"new", began_with=b"old")[0]
    assert read_cache(other, KEY) == (b"old", [])


# ---------------------------------------------------------------------------------------------- merging


@pytest.mark.parametrize("version", VERSIONS)
def test_what_another_build_wrote_meanwhile_is_merged(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, config, log = seam(monkeypatch, version)
    before = cache(config, a=1.0)
    write_cache(tmp_path, KEY, before)
    write_cache(tmp_path, KEY, cache(config, a=1.0, b=2.0), began_with=before)  # the other build
    ours = cache(config, a=1.0, c=3.0)
    assert write_cache(tmp_path, KEY, ours, began_with=before, merge=merge_by(config, log)) == []
    assert entries(read_cache(tmp_path, KEY)[0]) == {"a": 1.0, "b": 2.0, "c": 3.0}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fault", ["damaged", "foreign", "refused"])
def test_a_cache_that_tensorrt_rejects_is_said_and_replaced(
    fault: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our checksum holds, TensorRT says no: None for what it can't read, False for one of another GPU."""
    fake, config, log = seam(monkeypatch, version)
    other = cache(config, b=2.0)
    if fault == "damaged":
        other = b"ftcache:{"
    elif fault == "foreign":
        other = other.replace(b"(9, 0)", b"(8, 9)")
    else:
        fake.fake.failing.add("create_timing_cache")
    write_cache(tmp_path, KEY, other)
    ours = b'ftcache:{"origin": "%s (9, 0)", "entries": {"c": 3.0}}' % version.encode()
    notes = write_cache(tmp_path, KEY, ours, merge=merge_by(config, log))
    assert "written by another build and is replaced" in notes[0]
    words = {"damaged": "the timing cache is damaged", "refused": "the test asked for it", "foreign": "no reason"}
    assert words[fault] in notes[0]
    assert read_cache(tmp_path, KEY) == (ours, [])


def test_without_tensorrt_others_are_replaced_and_it_is_said(tmp_path: Path) -> None:
    write_cache(tmp_path, KEY, b"theirs")
    assert "TensorRT was not asked" in write_cache(tmp_path, KEY, b"ours")[0]
    assert write_cache(tmp_path, KEY, b"next", began_with=b"ours") == []
    assert write_cache(tmp_path, KEY, b"next") == []  # the same bytes
    assert read_cache(tmp_path, KEY)[0] == b"next"


# ---------------------------------------------------------------------------------------------- several processes


def append(ours: bytes, other: bytes) -> tuple[bytes, str]:
    return ours + other, ""


def one_of_many(folder: Path, number: int) -> None:
    write_cache(folder, KEY, b"%d " % number, merge=append)


def test_processes_lose_nothing(tmp_path: Path) -> None:
    """Eight builds that end together, each with a timing of its own."""
    processes = [
        multiprocessing.get_context("fork").Process(target=one_of_many, args=(tmp_path, number)) for number in range(8)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(read_cache(tmp_path, KEY)[0].split()) == [b"%d" % number for number in range(8)]
    assert not list(tmp_path.glob(".*.partial-*"))


@pytest.fixture(params=["system", "file"])
def kind_of_lock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    kind: str = request.param
    if kind == "file":
        monkeypatch.setattr(timing_cache, "_system_lock", timing_cache._file_lock)
    return kind


@pytest.mark.usefixtures("kind_of_lock")
def test_a_lock_that_is_held_is_waited_for_then_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing_cache, "LOCK_WAIT_S", 0.2)
    path = tmp_path / KEY.file_name
    with timing_cache._lock(path):
        notes = write_cache(tmp_path, KEY, b"x")
    assert "was not saved" in notes[0]
    assert "held" in notes[0]
    assert not path.exists()
    assert write_cache(tmp_path, KEY, b"x") == []


def test_a_lock_file_that_was_left_behind_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no locks: one that is older than five minutes is no lock."""
    monkeypatch.setattr(timing_cache, "_system_lock", timing_cache._file_lock)
    monkeypatch.setattr(timing_cache, "LOCK_WAIT_S", 0.3)
    lock = tmp_path / f".{KEY.file_name}.lock"
    lock.touch()
    assert "held" in write_cache(tmp_path, KEY, b"x")[0]
    old = time.time() - timing_cache.STALE_S - 1
    os.utime(lock, (old, old))
    assert write_cache(tmp_path, KEY, b"x") == []
    assert not lock.exists()


@pytest.mark.usefixtures("kind_of_lock")
def test_a_failure_gives_the_lock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing_cache, "LOCK_WAIT_S", 0.2)

    def broken(ours: bytes, other: bytes) -> tuple[bytes, str]:
        raise KeyError("a bug")

    write_cache(tmp_path, KEY, b"x")
    with pytest.raises(KeyError):
        write_cache(tmp_path, KEY, b"y", merge=broken)
    assert write_cache(tmp_path, KEY, b"y", began_with=b"x") == []
