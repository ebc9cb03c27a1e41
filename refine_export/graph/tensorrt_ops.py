"""The operators and attributes that TensorRT's ONNX parser imports.

Source: onnx/onnx-tensorrt, `docs/operators.md`, the text for TensorRT 10.15 ("opset 9 to opset 24"). NVIDIA's
"ONNX Opset Guide" has opset 25 for TensorRT 11.x; its list was not available, so what it adds is missing. A test
compares all of this with the parser of TensorRT for RTX 1.7.1, which is a newer one: `supports_operator` and parsing.
"""

from typing import Final

SOURCE: Final = "onnx-tensorrt docs/operators.md, TensorRT 10.15"
"""Names the list in messages."""

MAX_OPSET: Final = 24
"""The newest opset of the default domain that `SOURCE` states."""

SUPPORTED_OPS: Final = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
    BatchNormalization BlackmanWindow
    Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
    DeformConv DepthToSpace DequantizeLinear Div Dropout
    Einsum Elu Equal Erf Exp Expand EyeLike
    Flatten Floor
    GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
    GreaterOrEqual GridSample GroupNormalization
    HammingWindow HannWindow HardSigmoid HardSwish Hardmax
    Identity If ImageScaler InstanceNormalization IsInf IsNaN
    LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool
    MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul
    Neg NonMaxSuppression NonZero Not
    OneHot Or
    PRelu Pad ParametricSoftplus Pow
    QuantizeLinear
    RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round
    STFT ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice
    Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum
    Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu
    Unsqueeze Upsample
    Where
    Xor
    """.split()  # noqa: SIM905 (a list literal takes four times the lines)
)
"""Operator types of the default domain (`""` or `ai.onnx`): the rows whose column "Supported" is Y."""

RTX_ADDS: Final = frozenset({"CausalConvWithState", "LinearAttention", "Swish"})
"""Operators that TensorRT for RTX 1.7.1 imports and the list lacks: Swish came with opset 24, the others with opset 27,
after the list's parser. Enterprise TensorRT of the same age (11.x) may import them too; no list says so."""

ATTRIBUTES: Final[dict[str, dict[str, tuple[str | int, ...]]]] = {
    "Resize": {
        "antialias": (0,),
        "mode": ("nearest", "linear"),
        "coordinate_transformation_mode": (
            "half_pixel",
            "pytorch_half_pixel",
            "tf_half_pixel_for_nn",
            "asymmetric",
            "align_corners",
        ),
        "keep_aspect_ratio_policy": ("stretch",),
    },
    "ScatterND": {"reduction": ("none",)},
    # Not in the list, which names ScatterND alone: TensorRT for RTX 1.7.1 says "Unsupported reduction type".
    "ScatterElements": {"reduction": ("none",)},
}
"""Operator -> attribute -> values that are imported; the first is ONNX's default. Beyond the list, TensorRT for RTX
1.7.1 takes the mode `cubic` of Resize."""

UNDILATED: Final = ("AveragePool", "LpPool", "MaxPool")
"""Operators whose `dilations` must be ones."""
