"""One probe for each kernel feature, each with its reason."""
