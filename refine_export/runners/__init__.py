"""The same calls for every backend: `base` states them, one file per backend keeps them."""
