"""``bgfetch demo``: the main job, told step by step on a machine with nothing else."""

from workers.demo.main import main

__all__ = ["main"]
