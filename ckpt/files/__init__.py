"""One module for each kind of descriptor, dump and restore side by side."""
