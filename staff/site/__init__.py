"""The handout as a website and as a PDF."""
