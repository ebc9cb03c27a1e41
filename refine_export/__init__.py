"""RIFE from a PyTorch checkpoint to ONNX and TensorRT, proven equal to the reference.

The stages, in the order in which data flows through them; none imports a later one:

`checkpoint` file to state dict, `network` state dict to one of five graphs, `export` graph to ONNX,
`graph` ONNX to ONNX, `runners` the same calls for every backend, `feeds` frames and flows to inputs,
`validate` reference against candidates, `report` verdicts to HTML and JSON, `pipeline` all of them.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
