"""Marking: model answers, and the points that people enter."""
