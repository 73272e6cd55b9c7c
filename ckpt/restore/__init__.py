"""The restore: a plan, then its execution."""
