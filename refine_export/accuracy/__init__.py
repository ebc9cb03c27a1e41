"""Measure the distance between outputs, and hold it against limits."""
