"""Checkpoint and restore running Linux process trees."""
