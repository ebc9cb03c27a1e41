"""The fake TensorRT has the calls of the stubs, and computes what ONNX Runtime computes."""

from __future__ import annotations

import ast
import inspect
import json
import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from tests.support.fake_tensorrt import make_fake
from tests.support.paths import TESTS

VERSIONS = ("10.16.1", "11.4.0")
STUB = TESTS / "stubs" / "tensorrt" / "__init__.pyi"
DUNDERS = {"__init__", "__len__", "__getitem__", "__bool__"}
Parameters = list[tuple[str, bool]]  # name, and whether it can be left out


# ------------------------------------------------------------------------------------------- the fake and the stubs


def stub_classes(body: list[ast.stmt]) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def stub_members(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> dict[str, list[Parameters] | None]:
    """Name -> the parameters of each overload, None for an attribute or property."""
    found: dict[str, list[Parameters] | None] = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            found |= stub_members(classes[base.id], classes)
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found[item.target.id] = None
        elif isinstance(item, ast.ClassDef):
            found[item.name] = None
        elif isinstance(item, ast.FunctionDef):
            decorators = {ast.unparse(decorator) for decorator in item.decorator_list}
            if decorators - {"overload"}:
                found[item.name] = None
            elif "overload" in decorators:
                found[item.name] = [*(found.get(item.name) or []), parameters_of(item.args)[1:]]
            else:
                found[item.name] = [parameters_of(item.args)[1:]]
    return found


def parameters_of(arguments: ast.arguments) -> Parameters:
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    required = len(names) - len(arguments.defaults)
    return [(name, place >= required) for place, name in enumerate(names)]


def fake_members(kind: type) -> dict[str, Any]:
    classes = [base for base in kind.__mro__ if base.__module__.startswith(("fake_tensorrt", "abc"))]
    named = {name: value for base in reversed(classes) for name, value in (*vars(base).items(), *annotated(base))}
    refused = {
        name for name, value in named.items() if getattr(value, "__annotations__", {}).get("return") == "NoReturn"
    }
    return {
        name: named[name] for name in named if (not name.startswith("_") or name in DUNDERS) and name not in refused
    }


def annotated(kind: type) -> list[tuple[str, None]]:
    return [(name, None) for name in vars(kind).get("__annotations__", {})]


def fake_parameters(value: Any) -> Parameters:
    given = list(inspect.signature(value).parameters.values())[1:]
    return [(parameter.name, parameter.default is not parameter.empty) for parameter in given]


@pytest.fixture(scope="module")
def stub() -> ast.Module:
    return ast.parse(STUB.read_text())


def one_sided() -> dict[str, set[str]]:
    """Class -> the members that the stub's header says only some versions have."""
    found = {"IHostMemory": {"__bool__"}}  # of any object; the fake's are bytes, which are False where they are empty
    for kind, names in re.findall(r"^#   [\d.]+ (?:only|on) \| (\w+): (.+)$", STUB.read_text(), re.MULTILINE):
        found.setdefault(kind, set()).update(names.split())
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_fake_has_is_what_the_stubs_declare(stub, version):
    """Names, methods or not, parameters in order, which of them can be left out; the fake has what is called."""
    fake, classes, some = make_fake(version), stub_classes(stub.body), one_sided()
    functions = {node.name: parameters_of(node.args) for node in stub.body if isinstance(node, ast.FunctionDef)}
    public = {name: value for name, value in vars(fake).items() if not name.startswith("_") and name != "fake"}
    assert set(public) <= {*classes, *functions}
    for name, value in public.items():
        if not inspect.isclass(value):
            given = inspect.signature(value).parameters.values()
            assert functions[name] == [(item.name, item.default is not item.empty) for item in given], name
            continue
        declared = stub_members(classes[name], classes)
        members = fake_members(value)
        assert set(members) - set(declared) - {"__init__"} <= some.get(name, set()), name
        for member, signatures in declared.items():
            if member in members and inspect.isfunction(members[member]) and member != "__getitem__":
                assert signatures, f"{name}.{member} is no method in the stubs"
                if name != "Dims":
                    assert fake_parameters(members[member]) in signatures, f"{name}.{member}"
            elif member in members:
                assert signatures is None or member == "__getitem__", f"{name}.{member} is a method in the stubs"


def test_each_major_lacks_what_the_header_says(stub):
    """10 only: in the fake of 10 where it has the class's member at all, never in that of 11."""
    eleven, classes = make_fake("11.4.0"), stub_classes(stub.body)
    for line in re.findall(r"^#   10 only \| (\w+: .+)$", STUB.read_text(), re.MULTILINE):
        name, _, members = line.partition(": ")
        for member in members.split():
            assert not hasattr(getattr(eleven, name), member)
            assert member not in stub_members(classes[name], classes)
    assert hasattr(make_fake("10.16.1").BuilderFlag, "FP16")
    assert int(make_fake("10.16.1").NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 1
    assert int(eleven.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 0


# ------------------------------------------------------------------------------------------- what the fake does

WARPED = """
    <ir_version: 9, opset_import: ["" : 18]>
    warped (float["N",4,"H","W"] image, float["N","H","W",2] grid) => (float["N",4,"H","W"] out)
    <float16[4,4,3,3] weight, float16[4] bias>
    {
        moved = GridSample <mode = "bilinear", padding_mode = "border", align_corners = 1> (image, grid)
        half = Cast <to = 10> (moved)
        features = Conv <pads = [1, 1, 1, 1]> (half, weight, bias)
        active = Relu (features)
        out = Cast <to = 1> (active)
    }
"""


class Collecting:
    """Makes a logger of a fake, and keeps its lines."""

    def __init__(self, trt: Any) -> None:
        lines = self.lines = []

        class Log(trt.ILogger):
            def log(self, severity: Any, msg: str) -> None:
                lines.append((severity.name, msg))

        self.logger = Log()

    @property
    def errors(self) -> list[str]:
        return [text for severity, text in self.lines if severity == "ERROR"]


@pytest.fixture
def model() -> onnx.ModelProto:
    parsed = parse_model(WARPED)
    generator = np.random.default_rng(0)
    for name, shape in (("weight", (4, 4, 3, 3)), ("bias", (4,))):
        values = generator.standard_normal(shape).astype(np.float16)
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return parsed


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    image = generator.uniform(size=(1, 4, 8, 8)).astype(np.float32)
    return {"image": image, "grid": generator.uniform(-1.2, 1.2, (1, 8, 8, 2)).astype(np.float32)}


def plan_of(
    trt: Any,
    log: Collecting,
    model: onnx.ModelProto,
    *,
    network_flag: str = "STRONGLY_TYPED",
    flags: tuple[str, ...] = (),
    **set_to: Any,
) -> Any:
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(getattr(trt.NetworkDefinitionCreationFlag, network_flag)))
    parser = trt.OnnxParser(network, log.logger)
    assert parser.parse(model.SerializeToString()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    for name, value in set_to.items():
        setattr(config, name, value)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 4, 8, 8), (1, 4, 8, 8), (1, 4, 16, 16))
    profile.set_shape("grid", (1, 8, 8, 2), (1, 8, 8, 2), (1, 16, 16, 2))
    config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


def outputs_of(engine: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    context = engine.create_execution_context()
    for name, array in feeds.items():
        assert context.set_input_shape(name, array.shape)
        assert context.set_tensor_address(name, array.ctypes.data)
    assert context.infer_shapes() == []
    out = np.zeros(tuple(context.get_tensor_shape("out")), np.float32)
    assert context.set_tensor_address("out", out.ctypes.data)
    assert context.execute_async_v3(0)
    return out


def reference(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime as ort

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["out"], feeds)[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_gives_the_numbers_of_onnx_runtime(version, model, feeds):
    trt = make_fake(version)
    log = Collecting(trt)
    engine = trt.Runtime(log.logger).deserialize_cuda_engine(plan_of(trt, log, model))
    assert np.array_equal(outputs_of(engine, feeds), reference(model, feeds))
    assert not engine.create_execution_context().set_input_shape("image", (1, 4, 32, 32))
    assert "profile 0 has" in log.errors[-1]
    trt.fake.failing.add("execute_async_v3")
    with pytest.raises(AssertionError):
        outputs_of(engine, feeds)


def test_a_grid_sample_that_the_parser_got_wrong_computes_something_else(model, feeds):
    trt = make_fake(grid_sample={"interpolation_mode": "NEAREST"})
    log = Collecting(trt)
    network = trt.Builder(log.logger).create_network()
    assert trt.OnnxParser(network, log.logger).parse(model.SerializeToString())
    layer = network.get_layer(0)
    assert layer.type == trt.LayerType.GRID_SAMPLE
    assert not hasattr(layer, "interpolation_mode")
    layer.__class__ = trt.IGridSampleLayer
    assert layer.interpolation_mode == trt.InterpolationMode.NEAREST
    trt.fake.frozen = ("interpolation_mode",)
    layer.interpolation_mode = trt.InterpolationMode.LINEAR
    assert layer.interpolation_mode == trt.InterpolationMode.NEAREST
    engine = trt.Runtime(log.logger).deserialize_cuda_engine(plan_of(trt, log, model))
    assert np.abs(outputs_of(engine, feeds) - reference(model, feeds)).max() > 0.05


def test_10_without_strong_typing_builds_fp32_from_fp16(model):
    """The flag, or its place in the mask, forgotten: no error, and convolutions in FP32."""
    trt = make_fake("10.16.1")
    log = Collecting(trt)
    for flag, word in (("STRONGLY_TYPED", "FP16"), ("EXPLICIT_BATCH", "FP32")):
        engine = trt.Runtime(log.logger).deserialize_cuda_engine(plan_of(trt, log, model, network_flag=flag))
        inspector = engine.create_engine_inspector()
        inspector.execution_context = context = engine.create_execution_context()
        assert context.set_input_shape("image", (1, 4, 8, 8))
        assert context.set_input_shape("grid", (1, 8, 8, 2))
        told = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
        assert [word in layer["Inputs"][0]["Format/Datatype"] for layer in told["Layers"]].count(True) == 1


def test_what_the_bindings_refuse_is_refused():
    trt = make_fake()
    log = Collecting(trt)
    config = trt.Builder(log.logger).create_builder_config()
    with pytest.raises(TypeError, match="BuilderFlag"):
        config.set_flag(1)
    with pytest.raises(AttributeError):
        config.max_workspace_size = 1
    with pytest.raises(TypeError, match="must be called"):
        type("Forgetful", (trt.ILogger,), {"__init__": lambda self: None})()
    with pytest.raises(TypeError, match="nullptr"):
        make_fake(gpu=False).Builder(log.logger)
    with pytest.raises(ValueError, match="set_input_shap"):
        make_fake(failing={"set_input_shap"})
