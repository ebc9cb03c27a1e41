"""Builder configuration: every option set by name, and read back where TensorRT can ignore it silently.

Polygraphy's `CreateConfig` (0.53.6) sets most of it, but drops the int of `add_optimization_profile`, does not know
REFIT_IDENTICAL, and reads nothing back. The calls were checked against the API documentation of
TensorRT 10.12 to 11.4; not run. Run with TensorRT for RTX 1.7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from refine_export.engine.bindings import Library, Log, required
from refine_export.engine.build_options import BuildOptions
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import UnavailableError

if TYPE_CHECKING:
    import tensorrt as trt


def config_from_options(
    library: Library,
    builder: trt.Builder,
    log: Log,
    options: BuildOptions,
    shapes: Iterable[InputShapes],
    monitor: trt.IProgressMonitor | None = None,
) -> trt.IBuilderConfig:
    """Return the configuration of a build; its timing cache is set by `set_timing_cache`.

    Args:
        library: that builds.
        builder: of the engine.
        log: for the reasons of failures.
        options: of the build, checked by `Library.check_options`.
        shapes: of the inputs, also of fixed ones: Polygraphy names them in the profile too, and builds the same bytes.
        monitor: of the build's progress; the caller keeps it alive.

    Raises:
        UnavailableError: `unsupported-option`; this TensorRT lacks an option, or ignores or refuses it.
    """
    config = required(builder.create_builder_config(), "make a configuration", log)
    if options.workspace_mib is not None:
        # Not read back: TensorRT ignores a limit above the GPU's memory, which then is the limit.
        config.set_memory_pool_limit(_member(library, "MemoryPoolType", "WORKSPACE"), options.workspace_mib << 20)
    for name, wanted in _flags(options).items():
        flag = _member(library, "BuilderFlag", name)
        (config.set_flag if wanted else config.clear_flag)(flag)
        _check_kept(library, f"BuilderFlag.{name}", config.get_flag(flag), wanted, log)
    values: dict[str, Any] = {
        "builder_optimization_level": options.optimization_level,
        "profiling_verbosity": _member(library, "ProfilingVerbosity", options.verbosity.upper()),
    }
    if "hardware_compatibility" in library.can:
        level = options.hardware_compatibility.upper()
        values["hardware_compatibility_level"] = _member(library, "HardwareCompatibilityLevel", level)
    if "tiling" in library.can:
        level = options.tiling_level.upper()
        values["tiling_optimization_level"] = _member(library, "TilingOptimizationLevel", level)
    if options.aux_streams is not None:
        values["max_aux_streams"] = options.aux_streams
    for attribute, value in values.items():
        setattr(config, attribute, value)
        _check_kept(library, attribute, getattr(config, attribute), value, log)
    if options.compute_capabilities:
        _set_gpus(library, config, options.compute_capabilities, log)
    known = tuple(shapes)
    if known:
        _add_profile(builder, config, log, known)
    if monitor is not None:
        config.progress_monitor = monitor
    return config


def _flags(options: BuildOptions) -> dict[str, bool]:
    """Builder flags by name; only TF32 is on by default."""
    wanted = {
        "VERSION_COMPATIBLE": options.version_compatible,
        "EXCLUDE_LEAN_RUNTIME": options.exclude_lean_runtime,
        "STRIP_PLAN": options.strip_weights,
        "REFIT_IDENTICAL": options.strip_weights,
        "REFIT": options.refittable,
    }
    return {"TF32": options.tf32, **{name: True for name, on in wanted.items() if on}}


def _member(library: Library, kind: str, name: str) -> Any:
    """An enumerator by its name: numbers moved between 10 and 11."""
    found = getattr(library.module, kind).__members__.get(name)
    if found is None:
        message = f"{library.title} has no {kind}.{name}: leave the option out, or use another version"
        raise UnavailableError(message, code="unsupported-option", option=name)
    return found


def _check_kept(library: Library, name: str, found: Any, wanted: Any, log: Log) -> None:
    if found != wanted:
        raise UnavailableError(
            f"{library.title} keeps {name} at {getattr(found, 'name', found)}; expected "
            f"{getattr(wanted, 'name', wanted)}: leave the option out{log.last_errors()}",
            code="unsupported-option",
            option=name,
        )


def _set_gpus(library: Library, config: Any, capabilities: tuple[str, ...], log: Log) -> None:
    """GPUs that an engine of TensorRT for RTX is compiled for; unset means Ampere and newer."""
    config.num_compute_capabilities = len(capabilities)
    for place, capability in enumerate(capabilities):
        member = _member(library, "ComputeCapability", capability.upper())
        config.set_compute_capability(member, place)
        _check_kept(library, f"compute capability {place}", config.get_compute_capability(place), member, log)


def _add_profile(builder: trt.Builder, config: trt.IBuilderConfig, log: Log, shapes: Iterable[InputShapes]) -> None:
    profile: Any = required(builder.create_optimization_profile(), "make an optimization profile", log)
    for shape in shapes:
        try:
            profile.set_shape(shape.name, shape.minimum, shape.optimum, shape.maximum)
        except RuntimeError as error:
            raise UnavailableError(
                f"{log.title} refuses the profile of {shape.name}, {shape.minimum} to {shape.maximum}: {error}",
                code="profile-refused",
            ) from error
    if config.add_optimization_profile(profile) == -1:
        raise UnavailableError(f"{log.title} refuses the profile{log.last_errors()}", code="profile-refused")
