"""Commands for runs: make them, read their folders, and report on them."""
