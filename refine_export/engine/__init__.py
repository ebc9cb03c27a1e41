"""ONNX to TensorRT: build, guard, prove, compare; one file per job, and `trt` is where the package is found."""
