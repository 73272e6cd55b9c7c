"""Memory: VMAs, pagemaps, page transfer."""
