"""Every option reaches TensorRT by its name, and nothing that TensorRT refuses or ignores goes unnoticed."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from refine_export.engine.bindings import Log
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.builder_config import config_from_options, set_timing_cache, timing_cache_of
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import UnavailableError
from tests.support.fake_tensorrt import make_fake

DYNAMIC = InputShapes(name="x", minimum=(1, 3, 32, 32), optimum=(1, 3, 64, 64), maximum=(2, 3, 96, 96), dynamic=True)
STATIC = InputShapes(name="s", minimum=(1, 3), optimum=(1, 3), maximum=(1, 3), dynamic=False)


@pytest.fixture(params=["10.16.1", "11.4.0"])
def trt(request, monkeypatch):
    module = make_fake(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def log(trt):
    return Log(trt)


def config(trt: Any, log: Log, *shapes: InputShapes, monitor: Any = None, **options: Any) -> Any:
    builder = trt.Builder(log.logger)
    return config_from_options(trt, builder, log, BuildOptions(**options), shapes, monitor)


def flags(trt: Any, made: Any) -> set[str]:
    return {name for name, flag in trt.BuilderFlag.__members__.items() if made.get_flag(flag)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, set()),
        ({"tf32": True}, {"TF32"}),
        ({"version_compatible": True}, {"VERSION_COMPATIBLE"}),
        ({"version_compatible": True, "exclude_lean_runtime": True}, {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}),
        ({"strip_weights": True}, {"STRIP_PLAN", "REFIT_IDENTICAL"}),
        ({"refittable": True}, {"REFIT"}),
    ],
)
def test_the_flags_are_those_of_the_options_and_no_others(trt, log, options, expected):
    """TF32, which is on where nobody clears it; never a flag of precision."""
    assert flags(trt, config(trt, log, **options)) == expected


def test_the_defaults(trt, log):
    made = config(trt, log, STATIC)
    assert made.builder_optimization_level == 3
    assert made.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert made.hardware_compatibility_level == trt.HardwareCompatibilityLevel.NONE
    assert made.tiling_optimization_level == trt.TilingOptimizationLevel.NONE
    assert made.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 40
    assert (made.max_aux_streams, made.progress_monitor, made.num_optimization_profiles) == (4, None, 0)


def test_each_property_is_set(trt, log):
    monitor = trt.IProgressMonitor()
    made = config(
        trt,
        log,
        monitor=monitor,
        workspace_mib=256,
        optimization_level=5,
        hardware_compatibility="ampere_plus",
        verbosity="layer_names_only",
        tiling_level="moderate",
        aux_streams=0,
    )
    assert made.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 256 * 1024 * 1024
    assert (made.builder_optimization_level, made.max_aux_streams) == (5, 0)
    assert made.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert made.profiling_verbosity == trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    assert made.tiling_optimization_level == trt.TilingOptimizationLevel.MODERATE
    assert made.progress_monitor is monitor


def test_the_profile_names_dynamic_inputs_alone(trt, log):
    made = config(trt, log, DYNAMIC, STATIC)
    [profile] = made._profiles
    assert [tuple(dims[k] for k in range(4)) for dims in profile.get_shape("x")] == [
        DYNAMIC.minimum,
        DYNAMIC.optimum,
        DYNAMIC.maximum,
    ]
    assert profile.get_shape("s") == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("create_builder_config", "could not make a configuration: create_builder_config: Error Code 1"),
        ("create_optimization_profile", "could not make an optimization profile: create_opt"),
        ("add_optimization_profile", "refuses the optimization profile: add_optimization_profile: Error"),
    ],
)
def test_a_call_that_fails_is_an_error_with_the_log(trt, log, call, words):
    trt.fake.failing.add(call)
    with pytest.raises(UnavailableError) as error:
        config(trt, log, DYNAMIC)
    assert words in str(error.value)


def test_a_shape_that_tensorrt_refuses(trt, log):
    wrong = InputShapes(name="x", minimum=(4,), optimum=(2,), maximum=(3,), dynamic=True)
    with pytest.raises(UnavailableError, match=r"the profile of x, \(4,\) to \(3,\): Shape provided for opt"):
        config(trt, log, wrong)


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("BuilderFlag", "STRIP_PLAN", {"strip_weights": True}),
        ("BuilderFlag", "TF32", {}),
        (
            "HardwareCompatibilityLevel",
            "SAME_COMPUTE_CAPABILITY",
            {"hardware_compatibility": "same_compute_capability"},
        ),
        ("TilingOptimizationLevel", "FULL", {"tiling_level": "full"}),
    ],
)
def test_an_option_that_this_tensorrt_lacks(trt, log, monkeypatch, kind, name, options):
    monkeypatch.delitem(getattr(trt, kind).__members__, name)
    with pytest.raises(UnavailableError, match=f"TensorRT {trt.__version__} has no {kind}.{name}; expected 10.12"):
        config(trt, log, **options)


def test_an_option_that_tensorrt_ignores(trt, log, monkeypatch):
    """Setters of TensorRT return nothing: it logs an error, and the old value stays."""
    ignoring = property(lambda config: 3, lambda config, value: None)
    monkeypatch.setattr(trt.IBuilderConfig, "builder_optimization_level", ignoring)
    assert config(trt, log).builder_optimization_level == 3
    with pytest.raises(UnavailableError, match="keeps builder_optimization_level at 3; expected 5"):
        config(trt, log, optimization_level=5)


@pytest.mark.parametrize("call", ["set_flag", "clear_flag"])
def test_a_flag_that_tensorrt_ignores(trt, log, monkeypatch, call):
    monkeypatch.setattr(trt.IBuilderConfig, call, lambda config, flag: None)
    with pytest.raises(UnavailableError, match=r"ignores BuilderFlag\.\w+; expected"):
        config(trt, log, refittable=True)


# ------------------------------------------------------------------------------------------- the timing cache


def test_a_timing_cache_of_the_same_machine_is_taken(trt, log):
    first = config(trt, log)
    assert timing_cache_of(first) is None
    assert set_timing_cache(first, None, log) is None
    first.get_timing_cache()._entries["conv"] = 0.5
    content = timing_cache_of(first)
    assert content is not None
    second = config(trt, log)
    assert set_timing_cache(second, content, log) is None
    assert timing_cache_of(second) == content


def test_a_timing_cache_of_another_machine_is_said_and_begun_anew(trt, log):
    other = make_fake(trt.__version__, compute_capability=(8, 9))
    elsewhere = Log(other)
    foreign = config(other, elsewhere)
    set_timing_cache(foreign, None, elsewhere)
    made = config(trt, log)
    said = set_timing_cache(made, timing_cache_of(foreign), log)
    assert said is not None
    assert "of another TensorRT or GPU and is begun anew: setTimingCache: the cache is of" in said
    assert b"(9, 0)" in (timing_cache_of(made) or b"")


def test_a_damaged_timing_cache_is_said_and_begun_anew(trt, log):
    made = config(trt, log)
    said = set_timing_cache(made, b"rubbish", log)
    assert said is not None
    assert "is damaged, or of another TensorRT and is begun anew: createTimingCache: Error Code 1" in said
    assert timing_cache_of(made) is not None


@pytest.mark.parametrize("call", ["create_timing_cache", "set_timing_cache"])
def test_no_timing_cache_at_all(trt, log, call):
    made = config(trt, log)
    trt.fake.failing.add(call)
    with pytest.raises(UnavailableError, match=f"timing cache.*{call}: Error Code 1"):
        set_timing_cache(made, None, log)
