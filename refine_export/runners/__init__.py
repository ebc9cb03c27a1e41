"""One interface over all backends: `base` defines it, one module per backend implements it.

`open_onnx_runner` opens ONNX files by the names of `runtime_names`; engines are run by `engine.engine_runner`.
"""
