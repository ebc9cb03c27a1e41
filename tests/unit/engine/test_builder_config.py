"""Every option reaches TensorRT by its name, and nothing that TensorRT refuses or ignores goes unnoticed."""

import pytest

from refine_export.engine.bindings import Log
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.builder_config import config_from_options
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import UnavailableError
from tests.support.engine_models import error_code, fake_library

DYNAMIC = InputShapes(name="x", minimum=(1, 3, 32, 32), optimum=(1, 3, 64, 64), maximum=(2, 3, 96, 96), dynamic=True)
STATIC = InputShapes(name="s", minimum=(1, 3), optimum=(1, 3), maximum=(1, 3), dynamic=False)


@pytest.fixture(params=["10.16.1", "11.4.0"])
def library(request, monkeypatch):
    return fake_library(monkeypatch, request.param)


def config(library, *shapes, monitor=None, **options):
    log = Log(library.module)
    builder = library.module.Builder(log.logger)
    return config_from_options(library, builder, log, BuildOptions(**options), shapes, monitor)


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
def test_the_flags_are_those_of_the_options_and_no_others(library, options, expected):
    """TF32, which is on where nobody clears it; never a flag of precision."""
    made = config(library, **options)
    assert {name for name, flag in library.module.BuilderFlag.__members__.items() if made.get_flag(flag)} == expected


def test_each_property_is_set(library):
    trt = library.module
    plain = config(library, STATIC)
    assert (plain.builder_optimization_level, plain.profiling_verbosity) == (3, trt.ProfilingVerbosity.DETAILED)
    assert (plain.max_aux_streams, plain.progress_monitor, plain.num_optimization_profiles) == (4, None, 0)
    monitor = trt.IProgressMonitor()
    made = config(
        library,
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


def test_the_profile_names_dynamic_inputs_alone(library):
    [profile] = config(library, DYNAMIC, STATIC)._profiles
    shapes = [tuple(dims[place] for place in range(4)) for dims in profile.get_shape("x")]
    assert shapes == [DYNAMIC.minimum, DYNAMIC.optimum, DYNAMIC.maximum]
    assert profile.get_shape("s") == []


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("create_builder_config", "tensorrt-failed"),
        ("create_optimization_profile", "tensorrt-failed"),
        ("add_optimization_profile", "profile-refused"),
    ],
)
def test_a_call_that_fails_is_an_error_with_the_log(library, call, code):
    library.module.fake.failing.add(call)
    with pytest.raises(UnavailableError) as caught:
        config(library, DYNAMIC)
    assert caught.value.code == code
    assert f"{call}: Error Code 1" in str(caught.value)


def test_a_shape_that_tensorrt_refuses(library):
    wrong = InputShapes(name="x", minimum=(4,), optimum=(2,), maximum=(3,), dynamic=True)
    assert error_code(UnavailableError, lambda: config(library, wrong)) == "profile-refused"


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("BuilderFlag", "STRIP_PLAN", {"strip_weights": True}),
        ("TilingOptimizationLevel", "FULL", {"tiling_level": "full"}),
    ],
)
def test_an_option_that_this_tensorrt_lacks(library, monkeypatch, kind, name, options):
    monkeypatch.delitem(getattr(library.module, kind).__members__, name)
    assert error_code(UnavailableError, lambda: config(library, **options)) == "unsupported-option"


def test_what_tensorrt_ignores_is_noticed(library, monkeypatch):
    """Setters of TensorRT return nothing: it logs an error, and the old value stays."""
    ignoring = property(lambda config: 3, lambda config, value: None)
    monkeypatch.setattr(library.module.IBuilderConfig, "builder_optimization_level", ignoring)
    assert config(library).builder_optimization_level == 3
    assert error_code(UnavailableError, lambda: config(library, optimization_level=5)) == "unsupported-option"
    monkeypatch.setattr(library.module.IBuilderConfig, "set_flag", lambda config, flag: None)
    assert error_code(UnavailableError, lambda: config(library, refittable=True)) == "unsupported-option"
