"""Lower FP32 ONNX to strongly typed FP16 or BF16."""
