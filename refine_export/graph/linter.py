"""Find what makes an ONNX graph wrong, slow or impossible on TensorRT, before an engine is built.

    for finding in lint_file(Path("refine.onnx")):
        print(finding.severity, finding.rule, finding.node, finding.message, finding.why, finding.fix)

`lint_texts.RULES` states why each rule matters and what to do. Subgraphs and model-local functions are read too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
import onnx.checker
import onnx.inliner
import onnx.shape_inference
import onnx_ir as ir

from refine_export.errors import GraphError
from refine_export.graph.lint_texts import LintFinding, Severity, lint_finding
from refine_export.graph.model_file import ONNX_DOMAINS, add_output_shapes, load_external_data, model_from_file
from refine_export.graph.operator_types import HALF, MOVES, is_op, opset_of, subgraphs
from refine_export.graph.sampling_coordinates import PATH_STARTS, grids, upstream
from refine_export.graph.stacked_input import stack_signature
from refine_export.graph.tensorrt_ops import ATTRIBUTES, MAX_OPSET, RTX_ADDS, SUPPORTED_OPS, UNDILATED
from refine_export.signature import TensorInfo, signature_from_names
from refine_export.support.text import listed

_ROUNDS_NOTHING: Final = (
    *PATH_STARTS,
    *("Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "If", "Loop", "Pad"),
    *("Reshape", "Scan", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
_MEETS: Final = ("Add", "Sub", "Mul", "Div", "Where", "Min", "Max", "Concat")
_GRID_SIZE: Final = 8  # a constant with more elements than this along a spatial axis is part of a grid


@dataclass(frozen=True)
class _Graph:
    """The input of the rules: functions are inlined, types and shapes inferred, every node has a name."""

    model: ir.Model
    nodes: list[ir.Node]
    body_inputs: dict[ir.Value, ir.Node]
    """Input of a Loop or Scan body -> the Loop or Scan."""
    declared: dict[str, list[int | str]]
    """Output -> shape in the file; the outputs in `model` have only the shapes that the nodes compute."""

    def of(self, op_type: str) -> list[ir.Node]:
        return [node for node in self.nodes if is_op(node, op_type)]

    def dynamic_axes(self) -> list[int]:
        """Return the axes among N, H and W that have no fixed size in some 4-D input."""
        shapes = [value.shape for value in self.model.graph.inputs if value.shape and len(value.shape) == 4]
        return [axis for axis in (0, 2, 3) if any(not isinstance(shape[axis], int) for shape in shapes)]

    def coordinates(self, grid: ir.Value) -> list[ir.Value]:
        """Return the grid and the float values that it is computed from; values of unknown type may be floats."""
        values = upstream(grid, self.body_inputs)
        return [v for v in values if v is grid or v.dtype is None or v.dtype.is_floating_point()]


def lint_file(path: Path) -> list[LintFinding]:
    """Lint an ONNX file, external data included.

    Raises:
        GraphError: missing, a folder, empty, truncated or not ONNX; or external data are missing or damaged.
    """
    model = model_from_file(path)
    # The checker reads a file whose data do not fit into memory by itself; the rules need no data that large.
    return _lint(model, model if load_external_data(model, path.parent) else str(path))


def lint_model(model: onnx.ModelProto) -> list[LintFinding]:
    """Lint a model that has its weights in memory, below 2 GiB; it is not modified."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return _lint(copy, copy)


def _lint(model: onnx.ModelProto, checked: onnx.ModelProto | str) -> list[LintFinding]:
    """Lint `model`, which is modified; `checked` is the same model or its path."""
    invalid = []
    try:
        if not isinstance(checked, str):
            add_output_shapes(checked)
        onnx.checker.check_model(checked, full_check=True)
    except Exception as exc:  # ValidationError, InferenceError, and what a damaged model makes protobuf raise
        invalid = [_finding("invalid-model", "", f"onnx.checker refuses the model: {exc}")]
    try:
        if model.functions:
            model = _inlined(model)
            if not invalid and not isinstance(checked, str):  # else the weights are not there to be checked
                invalid = _needs_of_functions(model)
        graph = _graph_from_model(_without_converter_faults(model) if invalid else model)
        return invalid + [finding for rule in _CHECKS for finding in rule(graph)]
    except Exception as exc:
        if invalid:  # the reason is reported; a model that cannot be read has no further findings
            return invalid
        if isinstance(exc, ir.serde.SerdeError):  # bytes that are not UTF-8, for example
            return [_finding("invalid-model", "", f"the model cannot be read: {exc}")]
        raise


def _without_converter_faults(model: onnx.ModelProto) -> onnx.ModelProto:
    """Mend what ONNX Runtime's FP16 converter breaks: repeated nodes, unsorted nodes, types that no longer hold.

    Its files run nevertheless, and their FP16 coordinates are what the lint is for.
    """
    first: dict[tuple[str, ...], onnx.NodeProto] = {}
    for node in model.graph.node:
        first.setdefault(tuple(node.output), node)
    nodes = list(first.values())
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    sortable = ir.from_proto(model)
    sortable.graph.sort()
    return ir.to_proto(sortable)


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    except Exception as exc:  # a RuntimeError of its converter, which has no class of its own
        raise GraphError(
            f"the model's functions cannot be inlined ({exc}); inline them, or export again",
            code="unsupported-functions",
        ) from exc


def _needs_of_functions(inlined: onnx.ModelProto) -> list[LintFinding]:
    """Return a finding if a call leaves out an input of a function that nodes inside of it need."""
    try:
        onnx.checker.check_model(inlined)
    except onnx.checker.ValidationError as exc:
        return [_finding("invalid-model", "", f"with its functions inlined, onnx.checker refuses the model: {exc}")]
    return []


def _graph_from_model(model: onnx.ModelProto) -> _Graph:
    declared = {}
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim
        declared[output.name] = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims]
        # Without the declared shape, inference shows what the nodes compute; the rule baked-size compares both.
        output.type.tensor_type.ClearField("shape")
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True))
    nodes = list(inferred.graph.all_nodes())
    count: Counter[str] = Counter()
    for node in nodes:
        count[node.op_type] += 1
        node.name = node.name or f"{node.op_type}#{count[node.op_type]} (output {node.outputs[0].name!r})"
    body_inputs = {value: node for node in nodes for body in subgraphs(node) for value in body.inputs}
    return _Graph(inferred, nodes, body_inputs, declared)


def _finding(rule: str, node: ir.Node | str | None, message: str, severity: Severity | None = None) -> LintFinding:
    return lint_finding(rule, (node.name if isinstance(node, ir.Node) else node) or "", message, severity)


def _gridsample_attributes(graph: _Graph) -> Iterator[LintFinding]:
    values = (graph.model.graph.inputs, graph.model.graph.outputs)
    ours = stack_signature(*map(_infos, values)) or signature_from_names(
        *([value.name or "" for value in side] for side in values)
    )
    # Of a graph of another tool the file is the only reference: what it was trained with may be right.
    severity: Severity = "error" if ours else "warning"
    for node in graph.of("GridSample"):
        mode = node.attributes.get_string("mode", "bilinear")
        if mode != "bilinear":
            rule = "gridsample-mode" if mode == "bicubic" else "gridsample-nearest"
            yield _finding(rule, node, f"mode is {mode!r}; expected 'bilinear'")
        if (padding := node.attributes.get_string("padding_mode", "zeros")) != "border":
            message = f"padding_mode is {padding!r}; RIFE's is 'border'"
            yield _finding("gridsample-padding", node, message, severity)
        if (corners := node.attributes.get_int("align_corners", 0)) != 1:
            yield _finding("gridsample-corners", node, f"align_corners is {corners}; RIFE's is 1", severity)


def _infos(values: Sequence[ir.Value]) -> list[TensorInfo]:
    shapes = [[dim if isinstance(dim, int) else str(dim) for dim in value.shape or ()] for value in values]
    return [
        TensorInfo(name=value.name or "", dtype="", shape=tuple(shape))
        for value, shape in zip(values, shapes, strict=True)
    ]


def _gridsample_dtype(graph: _Graph) -> Iterator[LintFinding]:
    for node in graph.of("GridSample"):
        typed = [value for value in node.inputs if value is not None and value.dtype is not None]
        if len({value.dtype for value in typed}) > 1:
            given = " and ".join(f"{value.name!r} is {value.dtype}" for value in typed)
            yield _finding("gridsample-dtype", node, f"{given}; expected one type")


def _fp16_coordinates(graph: _Graph) -> Iterator[LintFinding]:
    def loses_bits(value: ir.Value) -> bool:
        """Return whether the FP16 `value` is where coordinates are rounded, not one that passes on rounded ones."""
        node = value.producer()
        if node is None:
            return value not in graph.body_inputs
        if node.op_type == "Cast" and node.inputs[0] is not None:
            return node.inputs[0].dtype not in HALF
        return node.op_type not in _ROUNDS_NOTHING

    for sample, grid in grids(graph.nodes, graph.body_inputs).items():
        values = [value for value in graph.coordinates(grid) if value.dtype in HALF]
        culprits = [value for value in values if value is grid or loses_bits(value)]
        if culprits:
            makers = [(value.producer(), value) for value in culprits]
            names = [f"{node.op_type if node else 'input or weight'} {value.name!r}" for node, value in makers]
            types = "/".join(sorted({str(value.dtype) for value in culprits}))
            message = f"its grid is computed with {types} tensors, made by {listed(names, 4)}"
            yield _finding("fp16-coordinates", sample, message)


def _baked_size(graph: _Graph) -> Iterator[LintFinding]:
    for output in graph.model.graph.outputs:
        name = output.name or ""
        declared = graph.declared[name]
        inferred = declared if output.shape is None else list(output.shape)
        for axis in graph.dynamic_axes() if len(inferred) == 4 else ():
            stated = declared[axis] if len(declared) == 4 else ""
            sizes = [size for size in (inferred[axis], stated) if isinstance(size, int)]
            if sizes and (axis == 0 or sizes[0] > 1):  # 1 is a pooled picture
                other = f" (the file states {stated!r})" if stated not in ("", sizes[0]) else ""
                message = f"axis {axis} is always {sizes[0]}{other}, though that axis of the inputs is dynamic"
                yield _finding("baked-size", name, message)


def _baked_grid(graph: _Graph) -> Iterator[LintFinding]:
    found = grids(graph.nodes, graph.body_inputs).values() if graph.dynamic_axes() else []
    for value in dict.fromkeys(value for grid in found for value in graph.coordinates(grid)):
        tensor = ir.convenience.get_const_tensor(value)
        shape = [] if tensor is None else [int(size) for size in tensor.shape.numpy()]
        last = len(shape) > 2 and shape[-1] == 2  # [N, H, W, 2], or [..., H, W]
        spatial = range(-3, -1) if last else range(-min(2, len(shape)), 0)
        if any(shape[axis] > _GRID_SIZE and not _is_window(value, axis) for axis in spatial):
            yield _finding("baked-grid", value.name, f"constant of shape {shape}, though the inputs are dynamic")


def _is_window(value: ir.Value, axis: int) -> bool:
    """Return whether a constant meets only tensors of a known size along an axis from the end: it is not a whole frame.

    RAFT looks up a window of 9x9 around each pixel: the constant meets positions [N * H * W, 1, 1, 2].
    """
    for node, _ in value.uses():
        if is_op(node, *MOVES, "Cast"):
            moved = node.outputs[0].shape
            if moved is None or len(moved) != len(value.shape or ()) or not _is_window(node.outputs[0], axis):
                return False
        elif any(other is not value and not _is_known(other, axis) for other in node.inputs if other is not None):
            return False
    return True


def _is_known(value: ir.Value, axis: int) -> bool:
    """Return whether a size along an axis from the end is a number, or missing, which counts as 1."""
    return value.shape is not None and (len(value.shape) < -axis or isinstance(value.shape[axis], int))


def _baked_steps(graph: _Graph) -> Iterator[LintFinding]:
    """Find sizes of the traced example inside of a graph whose inputs are dynamic.

    A Resize or Reshape to constants, or a Slice to a constant end, gives one size whatever the input's is; and wherever
    a tensor of one size meets one that follows the inputs, it was made for one size, whatever made it.
    """
    for node in graph.nodes if graph.dynamic_axes() else ():
        source = node.inputs[0] if node.inputs else None
        shape = None if source is None else source.shape
        free = [] if shape is None else [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
        made = node.outputs[0].shape if node.outputs else None
        baked: list[int] = []
        if is_op(node, "Resize", "Upsample") and made is not None:
            # Of sizes that a Concat makes, batch and channels may be computed, and the sides constants.
            baked = [size for axis in free if axis > 1 and isinstance(size := made[axis], int) and size > 1]
        elif is_op(node, "Reshape") and (sizes := _constant(node, 1)) and free and min(sizes) > 0:
            baked = [size for size in sizes if size > _GRID_SIZE]
        elif is_op(node, "Slice") and (ends := _constant(node, 2)) is not None:
            axes = _constant(node, 3) or list(range(len(ends)))
            rank = len(shape or ())
            baked = [end for end, axis in zip(ends, axes, strict=False) if axis % max(rank, 1) in free[-2:]]
            baked = [end for end in baked if _GRID_SIZE < end < 2**31 - 1]
        elif is_op(node, *_MEETS):
            baked = list(_met(node))
        if baked:
            message = f"{node.op_type} has the constant size {'x'.join(map(str, baked))}, though the inputs are dynamic"
            yield _finding("baked-size", node, message)


def _met(node: ir.Node) -> Iterator[int]:
    """Yield each fixed size that an operand has where another follows the inputs' by name."""
    shapes = [value.shape for value in node.inputs if value is not None and value.shape is not None]
    joined = node.attributes.get_int("axis", 0) if is_op(node, "Concat") else None
    for axis in (-1, -2):
        found = [shape[axis] for shape in shapes if len(shape) >= -axis and joined not in (axis, len(shape) + axis)]
        fixed = [size for size in found if isinstance(size, int) and size > _GRID_SIZE]
        if fixed and any(isinstance(size, ir.SymbolicDim) and size.value is not None for size in found):
            yield fixed[0]


def _constant(node: ir.Node, index: int) -> list[int] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    # Of a file whose external data do not fit into memory, they are not read.
    return None if tensor is None or isinstance(tensor, ir.ExternalTensor) else [int(x) for x in tensor.numpy().ravel()]


def _operators(graph: _Graph) -> Iterator[LintFinding]:
    for node in graph.nodes:
        if node.domain not in ONNX_DOMAINS:
            yield _finding("custom-op", node, f"operator {node.domain}.{node.op_type} is in a domain of its own")
        elif node.op_type not in SUPPORTED_OPS:
            newer = " (TensorRT for RTX 1.7.1 takes it)" if node.op_type in RTX_ADDS else ""
            yield _finding("unsupported-op", node, f"operator {node.op_type} is not on TensorRT's list{newer}")


def _restrictions(graph: _Graph) -> Iterator[LintFinding]:
    """Check what TensorRT lacks of the operators that it has."""
    for node in graph.nodes:
        if node.domain not in ONNX_DOMAINS:
            continue
        rule = "resize-attribute" if node.op_type == "Resize" else "unsupported-attribute"
        for name, allowed in ATTRIBUTES.get(node.op_type, {}).items():
            given = node.attributes[name].value if name in node.attributes else allowed[0]
            if given not in allowed:
                expected = " or ".join(map(repr, allowed))
                yield _finding(rule, node, f"{name} is {given!r}; expected {expected}")
        dilations = node.attributes.get_ints("dilations", ())
        if node.op_type in UNDILATED and {*dilations} - {1}:
            yield _finding(rule, node, f"dilations are {list(dilations)}; expected ones")
        if node.op_type == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].name:
            yield _finding(rule, node, "it gives indices as well; expected one output")
        values = dict(enumerate(node.inputs))
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and (zero := values.get(2)) is not None:
            constant = ir.convenience.get_const_tensor(zero)
            if constant is not None and constant.numpy().any():
                yield _finding(rule, node, f"the zero point {zero.name!r} is not 0; expected 0")
        shape = None if (image := values.get(0)) is None else image.shape
        if node.op_type == "GridSample" and shape is not None and len(shape) != 4:
            yield _finding("gridsample-rank", node, f"the image has {len(shape)} dimensions; expected 4")


def _resize(graph: _Graph) -> Iterator[LintFinding]:
    for node in graph.of("Resize"):
        for source, role in zip(node.inputs[2:4], ("scales", "sizes"), strict=False):
            if source is not None and ir.convenience.get_const_tensor(source) is None:
                yield _finding("resize-dynamic", node, f"its {role} {source.name!r} are computed")
                if role == "scales" and "axes" in node.attributes:
                    yield _finding("resize-attribute", node, "axes are given with computed scales; expected no axes")


def _float64(graph: _Graph) -> Iterator[LintFinding]:
    for node in graph.nodes:
        values = [value for value in (*node.inputs, *node.outputs) if value is not None]
        names = [repr(value.name) for value in values if value.dtype == ir.DataType.DOUBLE]
        if names and node.op_type not in ("Cast", "Constant"):
            yield _finding("float64", node, f"{node.op_type} has the FP64 tensors {', '.join(names)}")


def _opset(graph: _Graph) -> Iterator[LintFinding]:
    version = opset_of(graph.model.graph)
    if version > MAX_OPSET:
        yield _finding("opset", "", f"the model has opset {version}")


_CHECKS: Final[tuple[Callable[[_Graph], Iterator[LintFinding]], ...]] = (
    *(_gridsample_attributes, _gridsample_dtype, _fp16_coordinates, _baked_size, _baked_grid, _baked_steps),
    *(_operators, _restrictions, _resize, _float64, _opset),
)
