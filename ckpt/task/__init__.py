"""State of a task: one module for each kind."""
