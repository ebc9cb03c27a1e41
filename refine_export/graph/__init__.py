"""ONNX to ONNX: the lint and the passes; each pass states its pre- and postcondition."""
