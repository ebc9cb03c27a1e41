"""Write a Triton model repository from ONNX files and engines."""
