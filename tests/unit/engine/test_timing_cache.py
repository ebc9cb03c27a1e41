"""A timing cache is TensorRT's own file: taken where it fits, replaced where TensorRT rejects it."""

import pytest

from refine_export.engine.bindings import Log
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.builder_config import config_from_options
from refine_export.engine.timing_cache import save_timing_cache, set_timing_cache, timing_cache_path
from refine_export.errors import UnavailableError
from tests.support.engine_models import fail, fake_library, machine_of
from tests.support.refusals import refused


@pytest.fixture
def library(monkeypatch):
    return fake_library(monkeypatch)


@pytest.fixture
def path(tmp_path):
    return timing_cache_path(tmp_path / "cache", machine_of("11.4.0"))


def config(library):
    log = Log(library.module)
    return config_from_options(library, library.module.Builder(log.logger), log, BuildOptions(), ()), log


def test_the_name_has_the_version_and_the_gpu(path):
    assert path.name == "11.4.0-NVIDIA-H200-sm9.0.timing"


def test_timings_go_from_build_to_build(library, path):
    first, log = config(library)
    assert set_timing_cache(first, path, log) is not None  # it is the first build
    first.get_timing_cache()._entries["conv"] = 0.5
    assert save_timing_cache(first, path) is None
    second, log = config(library)
    assert set_timing_cache(second, path, log) is None
    assert second.get_timing_cache()._entries == {"conv": 0.5}


@pytest.mark.parametrize("content", ["damaged", "of another version"])
def test_what_tensorrt_rejects_is_replaced(library, path, monkeypatch, content):
    made, log = config(library)
    path.parent.mkdir()
    path.write_bytes(b"rubbish")
    if content != "damaged":
        other, elsewhere = config(fake_library(monkeypatch, "11.3.0"))
        set_timing_cache(other, path.with_name("none"), elsewhere)
        save_timing_cache(other, path)
    before = path.read_bytes()
    note = set_timing_cache(made, path, log)
    assert note is not None
    assert "TensorRT rejects the timing cache" in note
    assert save_timing_cache(made, path) is None
    assert path.read_bytes() != before


def test_a_folder_that_cannot_be_written_is_a_note(library, path):
    made, log = config(library)
    set_timing_cache(made, path, log)
    path.parent.write_text("a file")
    assert "was not saved" in str(save_timing_cache(made, path))


def test_without_a_cache_there_is_nothing_to_save(library, path):
    assert save_timing_cache(config(library)[0], path) is not None
    assert not path.exists()


@pytest.mark.parametrize("call", ["create_timing_cache", "set_timing_cache"])
def test_a_tensorrt_that_takes_no_cache_at_all(library, path, monkeypatch, call):
    made, log = config(library)
    fail(monkeypatch, library.module.IBuilderConfig, call, log)
    with refused("tensorrt-failed", UnavailableError):
        set_timing_cache(made, path, log)
