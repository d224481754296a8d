"""The handout as a site and as a PDF."""
