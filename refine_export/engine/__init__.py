"""ONNX to TensorRT engines: build, check, compare, refit, run."""
