"""Driving victims and ckpt from tests: start, handshake, look from outside, compare, clean up."""
