"""Tests of what this machine can run, and the commands that add what is missing."""
