"""The image format: framing, magics, image sets, page stores, chains, checksums."""
