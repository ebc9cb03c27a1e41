"""The right library is loaded, of a version that was checked, and refuses the options that it cannot honour."""

import gc
import sys
import weakref

import pytest

from refine_export.engine import bindings
from refine_export.engine.bindings import Log, builder_of, constructed, load_library
from refine_export.engine.build_options import BuildOptions
from refine_export.errors import RequestError, UnavailableError
from tests.support.engine_models import bare_module, needs_rtx, rtx_fixture  # noqa: F401 (fixture)
from tests.support.refusals import refused


def install(monkeypatch, name, version):
    monkeypatch.setitem(sys.modules, name, bare_module(name, version))


@pytest.mark.parametrize(
    ("name", "version", "target"),
    [
        ("tensorrt", "10.11.0", "trt"),
        ("tensorrt", "12.0.0", "trt"),
        ("tensorrt_rtx", "1.5.0.114", "rtx"),
    ],
)
def test_versions_that_were_not_checked_are_refused(monkeypatch, name, version, target):
    install(monkeypatch, name, version)
    with refused("wrong-version", UnavailableError):
        load_library(target)


def test_auto_takes_rtx_only_where_it_is_alone(monkeypatch):
    monkeypatch.setattr(bindings, "find_spec", lambda name: sys.modules.get(name))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    for status, missing in ((0, "tensorrt"), (None, "tensorrt_rtx")):  # what can build on this machine is missing
        monkeypatch.setattr(bindings, "driver_status", lambda status=status: status)
        with refused("missing-package", UnavailableError, module=missing):
            load_library()
    install(monkeypatch, "tensorrt_rtx", "1.7.1.116")
    library = load_library()
    assert (library.name, library.title) == ("rtx", "TensorRT for RTX 1.7.1")
    install(monkeypatch, "tensorrt", "11.4.0.106")
    assert load_library().title == "TensorRT 11.4.0"


@pytest.mark.parametrize(
    "options",
    [
        {"refittable": True},
        {"strip_weights": True},
        {"version_compatible": True},
        {"hardware_compatibility": "ampere_plus"},
        {"timing_cache": "folder"},
        {"tiling_level": "full"},
    ],
)
def test_options_that_rtx_cannot_honour_are_refused_by_name(monkeypatch, options):
    install(monkeypatch, "tensorrt_rtx", "1.7.1.116")
    [name] = options
    with refused("unsupported-option", RequestError, option=name):
        load_library("rtx").check_options(BuildOptions(**options))
    install(monkeypatch, "tensorrt", "11.4.0.106")
    load_library("trt").check_options(BuildOptions(**options))


def test_gpus_are_for_rtx(monkeypatch):
    options = BuildOptions(gpu=("rtx40",))
    install(monkeypatch, "tensorrt", "11.4.0.106")
    with refused("unsupported-option", RequestError):
        load_library("trt").check_options(options)
    install(monkeypatch, "tensorrt_rtx", "1.7.1.116")
    load_library("rtx").check_options(options)


@needs_rtx
def test_the_log_keeps_errors_among_chatter(rtx):
    heard = []
    log = Log(rtx.module, lambda *line: heard.append(line))
    severity = rtx.module.ILogger.Severity
    for number in range(300):
        log.logger.log(severity.VERBOSE, f"tactic {number}")
    log.logger.log(severity.ERROR, "first")
    log.logger.log(severity.WARNING, "second")
    assert heard == [("ERROR", "first"), ("WARNING", "second")] == list(log.lines)
    assert log.last_errors() == ": first"


@needs_rtx
def test_a_logger_outlives_what_logs_to_it(rtx):
    """TensorRT keeps no reference: a network that was freed after its logger hung a process."""
    kept = weakref.ref(Log(rtx.module).logger)
    gc.collect()
    assert kept() is not None


@needs_rtx
def test_nothing_is_collected_while_a_constructor_warns_of_a_second_logger(rtx):
    """It holds a lock, for which a builder that is freed there waited for ever."""
    collects = []
    first = builder_of(rtx.module, Log(rtx.module))
    log = Log(rtx.module, lambda *line: collects.append(gc.isenabled()))
    made = [builder_of(rtx.module, log), constructed(rtx.module.Runtime, "start", log)]
    assert (collects, gc.isenabled()) == ([False, False], True)
    del first, made
