"""Bytes that must never change: what was written by one version is read by every later one."""
