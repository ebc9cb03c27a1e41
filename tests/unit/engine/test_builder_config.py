"""Every option reaches TensorRT by its name, and nothing that TensorRT refuses or ignores goes unnoticed.

On TensorRT for RTX.
"""

import dataclasses
from types import SimpleNamespace

import pytest

from refine_export.engine.bindings import Log, builder_of
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.builder_config import config_from_options
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import UnavailableError
from tests.support.engine_models import fail, needs_rtx, rtx_fixture  # noqa: F401 (fixture)
from tests.support.refusals import refused

pytestmark = needs_rtx
DYNAMIC = InputShapes(name="x", minimum=(1, 3, 32, 32), optimum=(1, 3, 64, 64), maximum=(2, 3, 96, 96), dynamic=True)
STATIC = InputShapes(name="s", minimum=(1, 3), optimum=(1, 3), maximum=(1, 3), dynamic=False)


def config(library, *shapes, monitor=None, log=None, **options):
    log = log or Log(library.module)
    builder = builder_of(library.module, log)
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
def test_the_flags_are_those_of_the_options_and_no_others(rtx, options, expected):
    """TF32, which is on where nobody clears it; TensorRT for RTX takes flags that its builds then fail with."""
    made = config(rtx, **options)
    assert {name for name, flag in rtx.module.BuilderFlag.__members__.items() if made.get_flag(flag)} == expected


def test_each_property_is_set(rtx):
    trt = rtx.module
    plain = config(rtx, STATIC)
    assert (plain.builder_optimization_level, plain.profiling_verbosity) == (3, trt.ProfilingVerbosity.DETAILED)
    assert (plain.max_aux_streams, plain.progress_monitor, plain.num_optimization_profiles) == (-1, None, 1)
    monitor = trt.IProgressMonitor()
    options = {"workspace_mib": 256, "optimization_level": 5, "verbosity": "layer_names_only", "aux_streams": 0}
    made = config(rtx, monitor=monitor, gpu=("rtx40", "sm86"), **options)
    assert made.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 256 * 1024 * 1024
    assert (made.builder_optimization_level, made.max_aux_streams) == (5, 0)
    assert made.profiling_verbosity == trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    assert made.progress_monitor is monitor
    capabilities = [made.get_compute_capability(place).name for place in range(made.num_compute_capabilities)]
    assert capabilities == ["SM86", "SM89"]


def test_what_enterprise_tensorrt_has_alone(rtx, monkeypatch):
    """TensorRT for RTX keeps the tiling, which has no effect there, and ignores the compatibility."""
    able, options = dataclasses.replace(rtx, can=frozenset({"tiling"})), {"tiling_level": "moderate"}
    assert config(able, **options).tiling_optimization_level == rtx.module.TilingOptimizationLevel.MODERATE
    able, options = dataclasses.replace(rtx, can=frozenset({"hardware_compatibility"})), {}
    config(able)
    options["hardware_compatibility"] = "ampere_plus"
    with refused("unsupported-option", UnavailableError):
        config(able, **options)
    kept = []
    monkeypatch.setattr(
        rtx.module.IBuilderConfig,
        "hardware_compatibility_level",
        property(lambda config: kept[-1], lambda config, level: kept.append(level)),
    )
    config(able, **options)
    assert kept == [rtx.module.HardwareCompatibilityLevel.AMPERE_PLUS]


def test_the_profile_names_every_input(rtx, monkeypatch):
    asked, inner = [], rtx.module.IOptimizationProfile.set_shape
    monkeypatch.setattr(
        rtx.module.IOptimizationProfile, "set_shape", lambda self, *given: asked.append(given) or inner(self, *given)
    )
    assert config(rtx, DYNAMIC, STATIC).num_optimization_profiles == 1
    assert asked == [(one.name, one.minimum, one.optimum, one.maximum) for one in (DYNAMIC, STATIC)]


@pytest.mark.parametrize(
    ("kind", "call", "gives", "code"),
    [
        ("Builder", "create_builder_config", None, "tensorrt-failed"),
        ("Builder", "create_optimization_profile", None, "tensorrt-failed"),
        ("IBuilderConfig", "add_optimization_profile", -1, "profile-refused"),
    ],
)
def test_a_call_that_fails_is_an_error_with_the_log(rtx, monkeypatch, kind, call, gives, code):
    log = Log(rtx.module)
    fail(monkeypatch, getattr(rtx.module, kind), call, log, gives)
    with pytest.raises(UnavailableError, match=f"{call}: Error Code 1") as caught:
        config(rtx, DYNAMIC, log=log)
    assert caught.value.code == code


@pytest.mark.parametrize("shapes", [((4,), (2,), (3,)), ((4,), (4, 4), (4,)), ((-1,), (2,), (3,))])
def test_shapes_that_tensorrt_refuses(rtx, shapes):
    """`set_shape` raises for negative sizes alone; the rest is found when the profile is added."""
    low, best, high = shapes
    wrong = InputShapes(name="x", minimum=low, optimum=best, maximum=high, dynamic=True)
    with refused("profile-refused", UnavailableError):
        config(rtx, wrong)


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("BuilderFlag", "STRIP_PLAN", {"strip_weights": True}),
        ("ComputeCapability", "SM121", {"gpu": ("sm121",)}),
    ],
)
def test_an_option_that_this_tensorrt_lacks(rtx, monkeypatch, kind, name, options):
    members = {other: flag for other, flag in getattr(rtx.module, kind).__members__.items() if other != name}
    monkeypatch.setattr(rtx.module, kind, SimpleNamespace(__members__=members))
    with refused("unsupported-option", UnavailableError):
        config(rtx, **options)


def test_what_tensorrt_ignores_is_noticed(rtx, monkeypatch):
    """Setters of TensorRT return nothing: it logs a warning, and the old value stays."""
    monkeypatch.setattr(rtx.module.IBuilderConfig, "set_flag", lambda config, flag: None)
    with refused("unsupported-option", UnavailableError):
        config(rtx, refittable=True)
