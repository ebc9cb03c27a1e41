"""Frames between frames: of two pictures or of a video, by a runner here or by a server."""
