"""Source that makes a child process believe that it runs on a machine with a GPU."""

MACHINE = """
import refine_export.engine.machine as machine
machine.current_gpu = lambda: ("NVIDIA H200", (9, 0))
machine._cuda_major = lambda: 13
"""
