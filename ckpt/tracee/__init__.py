"""Tasks under ptrace: seize, interrupt, registers."""
