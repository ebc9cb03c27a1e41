"""Texts of the lint: why each rule matters and what to do, and the finding; `linter` has the checks themselves."""

from dataclasses import dataclass
from typing import Final, Literal

from refine_export.graph.tensorrt_ops import MAX_OPSET, SOURCE

Severity = Literal["error", "warning"]

RULES: Final[dict[str, tuple[str, str]]] = {
    "invalid-model": (
        "A file that breaks the ONNX standard is refused, or read in different ways, by each tool.",
        "Export it again, or repair what the message names.",
    ),
    "gridsample-nearest": (
        "TensorRT's parser starts from nearest and knows only 'nearest', 'bilinear', 'bicubic', so it samples "
        "the nearest pixel, silently (NVIDIA/TensorRT#4646). ONNX Runtime is right and cannot show it.",
        "Export at opset 18 with mode='bilinear'; from opset 20 on leave mode out (bilinear on both sides).",
    ),
    "gridsample-mode": ("The networks sample bilinearly.", "Export at opset 18 with mode='bilinear'."),
    "gridsample-padding": (
        "RIFE's networks clamp positions outside the frame to its border; ONNX's default (zeros) darkens it. A network "
        "that was trained with another padding is right as it is.",
        "For RIFE's weights, set padding_mode='border'.",
    ),
    "gridsample-corners": (
        "In RIFE's networks -1 and 1 are centres of corner pixels; else a sample is off by up to half a pixel. A "
        "network that was trained otherwise is right as it is.",
        "For RIFE's weights, set align_corners=1 (ONNX's default is 0).",
    ),
    "gridsample-dtype": (
        "TensorRT wants one type for image, grid and result. ONNX Runtime takes a mix and cannot show it.",
        "Cast the image to FP32 in front of GridSample and the result back; never cast the grid down.",
    ),
    "fp16-coordinates": (
        "An FP16 coordinate is off by up to (W-1)/2 * 2^-12 px: 0.23 px at W=1920 (BF16: 8 times that). A "
        "Cast to FP32 afterwards does not bring back what was rounded.",
        "Compute the grid in FP32: from FP32 flow inputs, or a convolution's output cast to FP32 at once.",
    ),
    "baked-size": (
        "The size of the traced example is in the graph: another size fails or gives a wrong picture.",
        "Compute sizes from Shape (torch: arange, not linspace), or export one graph per size.",
    ),
    "baked-grid": (
        "The grid of the traced example is in the graph: another size fails or samples wrong positions.",
        "Build the grid from Shape (torch: arange, not linspace), or export one graph per size.",
    ),
    "unsupported-op": (
        f"TensorRT's parser does not import it ({SOURCE}).",
        "Express it by supported operators, or fold it if its inputs are constants.",
    ),
    "custom-op": (
        "TensorRT imports an operator outside ONNX's own domain only with a plugin of that name.",
        "Export with standard operators (GridSample: opset 16 on), or add a model-local function for it.",
    ),
    "unsupported-attribute": (
        f"TensorRT's parser imports the operator, but not in this form ({SOURCE}).",
        "Express it by operators that TensorRT has.",
    ),
    "gridsample-rank": (
        f"TensorRT's list has 4-D images only ({SOURCE}). TensorRT for RTX 1.7.1 builds 5-D ones, untested here.",
        "Sample slice by slice in 4-D, or compare the engine with the ONNX file.",
    ),
    "resize-attribute": (
        f"TensorRT's Resize lacks it ({SOURCE}).",
        "Use nearest or linear without antialias (half_pixel linear by 0.5 is AveragePool 2x2, exactly).",
    ),
    "resize-dynamic": (
        "TensorRT then computes the size at run time, and some versions refuse the graph.",
        "Resize by constant scales (torch: interpolate with scale_factor), or fold constants.",
    ),
    "float64": (
        "TensorRT has no FP64: its parser narrows values to FP32, or refuses. ONNX Runtime computes in FP64.",
        "Export the network in FP32; look for NumPy arrays and Python floats that became FP64 tensors.",
    ),
    "parser-refused": (
        "No engine can be built from the file with this version. What the parser says is measured, not looked up.",
        "Change the node that is named, or take a version of TensorRT that has it.",
    ),
    "opset": (
        f"TensorRT's parser states opsets up to {MAX_OPSET} ({SOURCE}); newer operators may be misread.",
        "Export at opset 18.",
    ),
}
"""Rule -> why it matters, what to do."""

WARNINGS: Final = ("gridsample-rank", "resize-dynamic", "opset")
"""The rules whose findings are warnings; those of all others are errors."""


@dataclass(frozen=True, kw_only=True)
class LintFinding:
    """One fault of a graph."""

    rule: str
    """Stable id, a key of `RULES`."""
    severity: Severity
    node: str
    """Node, output or tensor; "" for the graph. A node without a name is called `Add#2 (output 'x')`."""
    message: str
    """The fault, and what was expected."""
    why: str
    """Why it matters."""
    fix: str
    """The remedy."""


def lint_finding(rule: str, node: str, message: str, severity: Severity | None = None) -> LintFinding:
    """Return a finding with its rule's texts and, unless another is given, its severity."""
    why, fix = RULES[rule]
    severity = severity or ("warning" if rule in WARNINGS else "error")
    return LintFinding(rule=rule, severity=severity, node=node, message=message, why=why, fix=fix)
