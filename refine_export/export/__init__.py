"""Trace a network of the checkpoint to ONNX."""
