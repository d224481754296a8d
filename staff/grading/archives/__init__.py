"""Find the submissions, and make a clean copy of the files that count in each.

`finding` finds submissions; `reading`, with `zip_files` and `tar_files`, lists the entries of each; `planning` decides
which entries count; `staging` makes the copy.
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
