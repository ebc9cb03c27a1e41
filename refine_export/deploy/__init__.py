"""Artifacts on an inference server: model repositories, their checks, and the proof of what is served."""
