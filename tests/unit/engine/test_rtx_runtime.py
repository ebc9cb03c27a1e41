"""Contexts of TensorRT for RTX get the chosen strategies, and kernels are kept beside the engine."""

from types import SimpleNamespace

import pytest

from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.engine.rtx_runtime import kernels_path, rtx_context
from refine_export.errors import UnavailableError
from tests.support.refusals import refused

STRATEGIES = {
    "CudaGraphStrategy": SimpleNamespace(DISABLED="off", WHOLE_GRAPH_CAPTURE="whole"),
    "DynamicShapesKernelSpecializationStrategy": SimpleNamespace(
        __members__={"LAZY": "lazy", "EAGER": "eager", "NONE": "none"}
    ),
}


class Cache:
    """A runtime cache that takes only its own kernels."""

    def __init__(self) -> None:
        self.kernels = b""

    def deserialize(self, blob):
        fits = bytes(blob).startswith(b"ours")
        self.kernels = bytes(blob) if fits else self.kernels
        return fits

    def serialize(self):
        return self.kernels


@pytest.fixture
def engine():
    """An engine, in which a test looks up the configuration and the cache; the real bindings are in test_stubs.py."""
    config = SimpleNamespace(create_runtime_cache=Cache)

    def use(cache):
        config.cache = cache
        return True

    config.set_runtime_cache = use
    return SimpleNamespace(
        config=config,
        create_runtime_config=lambda: config,
        create_execution_context=lambda *, runtime_config: SimpleNamespace(config=runtime_config),
    )


def context(engine, path=None, **options):
    log = SimpleNamespace(last_errors=lambda: "")
    return rtx_context(SimpleNamespace(**STRATEGIES), engine, EngineRunOptions(**options), path, log)


def test_strategies(engine):
    made, cache = context(engine)
    assert (made.config.cuda_graph_strategy, cache) == ("off", None)
    assert made.config.dynamic_shapes_kernel_specialization_strategy == "eager"
    made, _ = context(engine, cuda_graph=True, rtx_kernels="lazy")
    assert made.config.cuda_graph_strategy == "whole"
    assert made.config.dynamic_shapes_kernel_specialization_strategy == "lazy"


def test_kernels_are_kept_for_the_next_start_and_written_when_they_are_new(engine, tmp_path):
    path = kernels_path(tmp_path / "m.rtx")
    _, cache = context(engine, path)
    cache.save()
    assert not path.exists()  # nothing was compiled
    engine.config.cache.kernels = b"ours: one"
    cache.save()
    assert path.read_bytes() == b"ours: one"
    _, cache = context(engine, path)
    assert engine.config.cache.kernels == b"ours: one"
    path.unlink()
    cache.save()
    assert not path.exists()  # they are known


def test_kernels_of_another_gpu_are_replaced(engine, tmp_path):
    path = tmp_path / "m.rtx.kernels"
    path.write_bytes(b"theirs")
    _, cache = context(engine, path)
    engine.config.cache.kernels = b"ours"
    cache.save()
    assert path.read_bytes() == b"ours"


def test_a_folder_that_cannot_be_written_does_not_fail_a_run(engine, tmp_path):
    (tmp_path / "file").touch()
    _, cache = context(engine, tmp_path / "file" / "m.rtx.kernels")
    engine.config.cache.kernels = b"ours"
    cache.save()


def test_a_cache_that_is_refused(engine, tmp_path):
    engine.config.set_runtime_cache = lambda cache: False
    with refused("tensorrt-failed", UnavailableError):
        context(engine, tmp_path / "m")
