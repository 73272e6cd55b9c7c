"""The parasite in a target: blob, command socket, batches, cure."""
