"""Generated from proto/ by the build."""
