"""Files, optional imports, manifests and progress: used by every layer."""
