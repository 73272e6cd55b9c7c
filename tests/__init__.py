"""The tests: `unit` and `property` need no privileges, `process` and `programs` need root."""
