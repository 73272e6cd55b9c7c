"""Memory that arrives after a task runs: what may come late, where it comes from, who is told.

The server itself is C (ckpt/_native/src/lazy.h); the process that holds it is in ckpt.lazy. Here is
what a restore does: it decides which memory can be missing, registers it, and hands it over.
"""
