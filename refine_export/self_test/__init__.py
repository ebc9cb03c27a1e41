"""Prove that the limits stop known-bad versions of a good file."""
