"""Latency, throughput and memory of files and of torch, measured in turn."""
