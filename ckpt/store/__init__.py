"""Orchestrator of `ckpt snapshot`: a folder with a chain of generations of one tree."""
