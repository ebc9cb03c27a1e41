"""What TensorRT is told for a build: every option set by name, and read back where it can be ignored in silence.

Polygraphy's `CreateConfig` (0.53.6, read) sets most of it, but it drops the bool of `set_timing_cache` and the int of
`add_optimization_profile`, knows no REFIT_IDENTICAL, and reads nothing back. What is left of it are these calls,
checked for 10.12 to 11.4: `set_flag`, `clear_flag`, `get_flag`, `set_memory_pool_limit`, the properties of
`IBuilderConfig`, `create_optimization_profile`, `set_shape`, `add_optimization_profile`, `create_timing_cache`,
`set_timing_cache`, `ITimingCache.serialize`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from refine_export.engine.bindings import Log, content_of, required, succeeded
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.profile_shapes import InputShapes, is_dynamic
from refine_export.errors import UnavailableError

if TYPE_CHECKING:
    import tensorrt as trt


def config_from_options(
    module: Any,
    builder: trt.Builder,
    log: Log,
    options: BuildOptions,
    shapes: Iterable[InputShapes],
    monitor: trt.IProgressMonitor | None = None,
) -> trt.IBuilderConfig:
    """The configuration of a build; its timing cache is set by `set_timing_cache`.

    Args:
        module: `trt.load()`.
        builder: of the engine.
        log: what TensorRT says.
        options: of the build.
        shapes: of the inputs; without a dynamic one there is no profile.
        monitor: told of the build's progress; the caller keeps it alive.

    Raises:
        UnavailableError: this TensorRT lacks an option, or ignores or refuses it.
    """
    config = required(builder.create_builder_config(), "make a configuration", log)
    if options.workspace_mib is not None:
        # Not read back: TensorRT ignores a limit above the GPU's memory, which then is the limit.
        config.set_memory_pool_limit(_member(module, "MemoryPoolType", "WORKSPACE"), options.workspace_mib << 20)
    for name, wanted in _flags(options).items():
        _set_flag(module, config, name, wanted)
    compatibility = options.hardware_compatibility.upper()
    for attribute, value in {
        "builder_optimization_level": options.optimization_level,
        "hardware_compatibility_level": _member(module, "HardwareCompatibilityLevel", compatibility),
        "profiling_verbosity": _member(module, "ProfilingVerbosity", options.verbosity.upper()),
        "tiling_optimization_level": _member(module, "TilingOptimizationLevel", options.tiling_level.upper()),
        **({} if options.aux_streams is None else {"max_aux_streams": options.aux_streams}),
    }.items():
        _set(module, config, attribute, value, log)
    known = tuple(shapes)
    if is_dynamic(known):
        _add_profile(builder, config, log, known)
    if monitor is not None:
        config.progress_monitor = monitor
    return config


def set_timing_cache(config: trt.IBuilderConfig, content: bytes | None, log: Log) -> str | None:
    """Give a build the timings of earlier ones, or an empty cache to fill.

    Args:
        config: of the build.
        content: of a cache of the same TensorRT and GPU, if there is one.
        log: what TensorRT says.

    Returns:
        None, or why `content` was rejected and the build begins with an empty cache.

    Raises:
        UnavailableError: TensorRT takes not even an empty cache.
    """
    rejected = None
    if content:
        cache = config.create_timing_cache(content)
        if cache is not None and succeeded(config.set_timing_cache(cache, False)):
            return None
        reason = "is of another TensorRT or GPU" if cache is not None else "is damaged, or of another TensorRT"
        rejected = f"the timing cache {reason} and is begun anew{log.last_errors(1)}"
    empty = required(config.create_timing_cache(b""), "make a timing cache", log)
    if not config.set_timing_cache(empty, False):
        raise UnavailableError(f"TensorRT takes no timing cache, not even an empty one{log.last_errors()}")
    return rejected


def timing_cache_of(config: trt.IBuilderConfig) -> bytes | None:
    """The timings of this build and those that it began with; None where TensorRT keeps none."""
    cache = config.get_timing_cache()
    content = None if cache is None else cache.serialize()
    return None if content is None else content_of(content)


def _flags(options: BuildOptions) -> dict[str, bool]:
    """Builder flags by name. TF32 is on where nobody says otherwise; the others are off."""
    flags = {"TF32": options.tf32}
    if options.version_compatible:
        flags["VERSION_COMPATIBLE"] = True
    if options.exclude_lean_runtime:
        flags["EXCLUDE_LEAN_RUNTIME"] = True
    if options.strip_weights:
        flags |= {"STRIP_PLAN": True, "REFIT_IDENTICAL": True}
    if options.refittable:
        flags["REFIT"] = True
    return flags


def _member(module: Any, kind: str, name: str) -> Any:
    """An enumerator by its name: numbers moved between 10 and 11."""
    found = getattr(module, kind).__members__.get(name)
    if found is None:
        raise UnavailableError(
            f"TensorRT {module.__version__} has no {kind}.{name}; expected 10.12 to 11.4: leave the option out, or use "
            "another version"
        )
    return found


def _set_flag(module: Any, config: trt.IBuilderConfig, name: str, wanted: bool) -> None:
    flag = _member(module, "BuilderFlag", name)
    if wanted:
        config.set_flag(flag)
    else:
        config.clear_flag(flag)
    if config.get_flag(flag) is not wanted:
        raise UnavailableError(f"TensorRT {module.__version__} ignores BuilderFlag.{name}; expected {wanted}")


def _set(module: Any, config: trt.IBuilderConfig, attribute: str, value: Any, log: Log) -> None:
    setattr(config, attribute, value)
    found = getattr(config, attribute)
    if found != value:
        raise UnavailableError(
            f"TensorRT {module.__version__} keeps {attribute} at {getattr(found, 'name', found)}; expected "
            f"{getattr(value, 'name', value)}: leave the option out{log.last_errors()}"
        )


def _add_profile(builder: trt.Builder, config: trt.IBuilderConfig, log: Log, shapes: Iterable[InputShapes]) -> None:
    profile: Any = required(builder.create_optimization_profile(), "make an optimization profile", log)
    for shape in shapes:
        if not shape.dynamic:
            continue
        try:
            profile.set_shape(shape.name, shape.minimum, shape.optimum, shape.maximum)
        except RuntimeError as error:
            raise UnavailableError(
                f"TensorRT refuses the profile of {shape.name}, {shape.minimum} to {shape.maximum}: {error}"
            ) from error
    if config.add_optimization_profile(profile) == -1:
        raise UnavailableError(f"TensorRT refuses the optimization profile{log.last_errors()}")
