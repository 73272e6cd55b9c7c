"""The version, without asking the package's metadata: that would take 20 ms. A test compares it
with pyproject.toml."""

VERSION = "0.1.0"
