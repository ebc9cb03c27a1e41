"""Files, optional packages, manifests and progress: used by every layer."""
