"""The dump: order, stages, rollback."""
