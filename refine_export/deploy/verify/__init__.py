"""Compare the answers of a running Triton server with the reference, and measure its speed."""
