"""The ONNX operators that TensorRT's parser imports.

Source: onnx/onnx-tensorrt, `docs/operators.md`, the text for TensorRT 10.15 ("opset 9 to opset 24"): each row whose
column "Supported" is Y. TensorRT 11.x states opset 25 (NVIDIA, "ONNX Opset Guide"); its list was not available, and
an operator that it adds is reported as unsupported until this list is renewed.
"""

from typing import Final

SOURCE: Final = "onnx-tensorrt docs/operators.md for TensorRT 10.15"
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
    GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual
    GridSample GroupNormalization
    HammingWindow HannWindow HardSigmoid HardSwish Hardmax
    Identity If ImageScaler InstanceNormalization IsInf IsNaN
    LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool
    MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul
    Neg NonMaxSuppression NonZero Not
    OneHot Or
    PRelu Pad ParametricSoftplus Pow
    QuantizeLinear
    RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round
    STFT ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum
    Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu
    Unsqueeze Upsample
    Where
    Xor
    """.split()
)
"""Operator types of the default domain (`""`, also spelled `ai.onnx`)."""
