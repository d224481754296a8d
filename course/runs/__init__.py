"""Commands that make runs, read their folders, and report on them."""
