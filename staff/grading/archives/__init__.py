"""Which submissions there are, and a clean copy of what counts in each.

finding says which there are; reading, with zip_files and tar_files, lists what is in one; planning decides what counts;
staging makes the copy.
"""

from staff.grading.archives.finding import Found, find
from staff.grading.archives.staging import needed_modules, stage
from staff.grading.archives.submission import Limits, Staged, Submission, SubmissionError, part_folders, safe_name, show

__all__ = [
    "Found",
    "Limits",
    "Staged",
    "Submission",
    "SubmissionError",
    "find",
    "needed_modules",
    "part_folders",
    "safe_name",
    "show",
    "stage",
]
