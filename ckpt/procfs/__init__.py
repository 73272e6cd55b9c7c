"""Pure parsers of /proc: bytes in, dataclasses out."""
