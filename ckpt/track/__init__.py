"""Watching what a tree of processes writes, for whoever wants to know; no dump needed."""
