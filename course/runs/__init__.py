"""Commands that start runs, read their folders, and report on them."""
