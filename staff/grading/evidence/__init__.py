"""Points for submitted runs, according to the rules under [[evidence]] in course/rubric.toml."""

from staff.grading.evidence.images import NoData, load_images
from staff.grading.evidence.recompute import judge

__all__ = [
    "NoData",
    "judge",
    "load_images",
]
