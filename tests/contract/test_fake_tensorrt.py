"""The fake TensorRT answers as the real TensorRT for RTX does, except where a difference is listed here."""

import re
from typing import Any

import onnx
import pytest
from onnx.parser import parse_model

from refine_export.engine.bindings import Log, builder_of
from refine_export.engine.grid_sample_check import grid_sample_layers
from tests.support.engine_models import model, needs_rtx

rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install tensorrt-rtx")
from tests.support.fake_tensorrt import FAKED, make_fake  # noqa: E402 (it imports tensorrt_rtx)

pytestmark = needs_rtx
DIFFERENCES = {
    "damaged timing cache": ("None", "ITimingCache"),  # which warns, and gives an empty one that it never fills
    "format of an engine's bytes": ("B", "f"),  # Python 3.11 has no buffers of other formats
}
"""Question -> what the fake answers, and what TensorRT for RTX does."""


def answer(ask: Any) -> str:
    try:
        found = ask()
    except Exception as error:
        return type(error).__name__
    return type(found).__name__ if "object at" in str(found) else str(found)


def answers(trt: Any) -> dict[str, str]:
    """Ask a library what the engine code asks."""
    log = Log(trt)
    builder = builder_of(trt, log)
    alive = []

    def parsed(content: Any, path: str | None = None) -> Any:
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, log.logger)
        alive.append((network, parser))  # a parser does not keep its network
        return parser.parse(content, path), parser, network

    def refused(content: bytes) -> list[tuple[Any, ...]]:
        taken, parser, _ = parsed(content)
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        return [taken, *((str(e.code()), e.node(), e.node_name(), e.node_operator(), e.desc()) for e in errors)]

    def graph_of(text: str) -> bytes:
        return parse_model(f'<ir_version: 9, opset_import: ["" : 18, "my": 1]> g {text}').SerializeToString()

    network = parsed(model().SerializeToString())[2]
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    [sampler] = grid_sample_layers(trt, network)
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    shapes = [(1, 4, 32, 32), (1, 4, 32, 32), (1, 4, 64, 64)]
    profile.set_shape("image", *shapes)

    def added(*given: tuple[int, ...]) -> tuple[Any, ...]:
        other = builder.create_optimization_profile()
        other.set_shape("image", *given)
        return bool(other), builder.create_builder_config().add_optimization_profile(other)

    def kept(attribute: str, value: Any) -> Any:
        setattr(config, attribute, value)
        return getattr(config, attribute)

    config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(profile)
    memory = builder.build_serialized_network(network, config)
    questions: dict[str, Any] = {
        "network": lambda: (network.num_layers, network.num_inputs, network.num_outputs, network.flags),
        "layers": lambda: [(one.name, one.type.name, one.metadata, one.num_inputs, one.num_outputs) for one in layers],
        "tensors": lambda: [
            (one.get_output(0).name, one.get_output(0).dtype, one.get_output(0).shape) for one in layers
        ],
        "a folded weight": lambda: layers[3].get_input(1),
        "sampler of opset 20": lambda: sampler.interpolation_mode,
        "sampler": lambda: (sampler.sample_mode, sampler.align_corners),
        "a string for an enumerator": lambda: setattr(sampler, "sample_mode", "CLAMP"),
        "marked twice": lambda: [network.mark_debug(layers[0].get_output(0)) for _ in range(2)],
        "not ONNX": lambda: refused(b"\xff not onnx"),
        "nothing": lambda: refused(b""),
        "unknown operators": lambda: refused(graph_of("(float[4] a) => (float[4] b) { c = Zonk (a) b = my.Warp (c) }")),
        "mixed types": lambda: refused(
            graph_of("(float[1,1,8,8] a, float16[1,8,8,2] g) => (float[1,1,8,8] b) { b = GridSample (a, g) }")
        ),
        "a string for bytes": lambda: parsed("text"),
        "missing external data": lambda: refused(external().SerializeToString()),
        "defaults": lambda: [
            str(getattr(builder.create_builder_config(), name))
            for name in (
                "flags",
                "builder_optimization_level",
                "profiling_verbosity",
                "max_aux_streams",
                "progress_monitor",
            )
        ],
        "workspace": lambda: (
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 28),
            config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE),
        ),
        "a level out of bounds": lambda: kept("builder_optimization_level", 9),
        "a number for a flag": lambda: config.set_flag(4),
        "flags that exclude each other": lambda: (
            config.set_flag(trt.BuilderFlag.REFIT),
            config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL),
            config.get_flag(trt.BuilderFlag.REFIT),
        ),
        "hardware compatibility": lambda: kept(
            "hardware_compatibility_level", trt.HardwareCompatibilityLevel.AMPERE_PLUS
        ),
        "profile": lambda: (profile.get_shape("image"), profile.get_shape("other"), config.num_optimization_profiles),
        "a descending profile": lambda: added((4,), (2,), (3,)),
        "a profile of two ranks": lambda: added((4,), (4, 4), (4,)),
        "a negative profile": lambda: added((-1,), (2,), (3,)),
        "sizes and sizes": lambda: profile.get_shape("image")[0] == profile.get_shape("image")[0],
        "sizes and a tuple": lambda: profile.get_shape("image")[0] == shapes[0],
        "an empty timing cache": lambda: config.create_timing_cache(b""),
        "damaged timing cache": lambda: config.create_timing_cache(b"rubbish"),
        "an engine's bytes": lambda: (bool(memory), memory.nbytes == len(bytes(memory)), bytes(memory)[1:4]),
        "length of an engine's bytes": lambda: len(memory),
        "a part of an engine's bytes": lambda: memory[0],
        "format of an engine's bytes": lambda: memoryview(memory).format,
    }
    return {name: answer(ask) for name, ask in questions.items()}


def external() -> onnx.ModelProto:
    made = model()
    onnx.external_data_helper.set_external_data(made.graph.initializer[0], "gone.bin")
    made.graph.initializer[0].ClearField("raw_data")
    return made


@pytest.mark.filterwarnings("ignore:.*Timing cache:DeprecationWarning")
def test_the_fake_answers_as_the_real_library_does():
    fake, real = answers(make_fake("11.4.0")), answers(rtx)
    found = {name: (fake[name], real[name]) for name in fake if fake[name] != real[name]}
    assert found == DIFFERENCES


def signature(call: Any) -> list[str]:
    """Names of the arguments, from the first line of a binding's documentation, or of a Python function."""
    if hasattr(call, "__code__"):
        return [*call.__code__.co_varnames[1 : call.__code__.co_argcount]]
    first = str(call.__doc__).partition("\n")[0]
    inside = re.sub(r"\[[^\]]*\]", "", first[first.index("(") + 1 : first.rindex(")")])
    return [part.partition(":")[0].strip() for part in inside.split(",")[1:]]


@pytest.mark.parametrize("made", FAKED, ids=lambda made: made.__name__)
def test_the_fake_has_no_call_that_the_real_library_lacks(made):
    real = getattr(rtx, made.__name__)
    for name, member in vars(made).items():
        if name.startswith("_"):
            continue
        assert hasattr(real, name), name
        theirs = getattr(real, name)
        if callable(member) and "*args" not in str(theirs.__doc__):  # overloaded
            expected = signature(theirs)
            assert expected == ["arg0"] or signature(member) == expected, name
