"""Check a Triton model repository on disk before a server loads it."""
