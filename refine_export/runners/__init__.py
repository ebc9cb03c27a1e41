"""One interface over all backends: `base` defines it, one module per backend implements it."""
