"""Ordinary programs, unmodified, carried over a dump and a restore."""
