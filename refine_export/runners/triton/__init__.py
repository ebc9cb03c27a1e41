"""A served model as a runner, and the client of a Triton server under it."""
