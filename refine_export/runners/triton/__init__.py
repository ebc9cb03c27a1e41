"""Run a model on a Triton server over gRPC, HTTP or shared memory."""
