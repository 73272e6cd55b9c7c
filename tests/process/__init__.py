"""Real processes through the installed `ckpt` command."""
