"""Live snapshots: memory of one instant, written while the tree runs on."""
