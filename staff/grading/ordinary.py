"""Files that every student has besides the parts and runs: the rest of the repository, and generated files.

They are left out of every submission, so they are not worth reporting.
"""

import re

from staff.grading.archives.submission import PART

REPOSITORY = {  # top level of the students' repository, and of a clone of it
    ".devcontainer", ".git", ".gitattributes", ".github", ".gitignore", ".release.json", ".vscode", "agents.md",
    "changelog.md", "license", "makefile", "readme.md", "conftest.py", "constraints.txt", "course", "docs",
    "environment.yml", "handout", "notebooks", "pyproject.toml", "setup.cfg", "tests", "theory",
}  # fmt: skip
LOCAL = {"build", "data", "env", "node_modules", "report.html", "submission.zip", "venv"}
MADE = re.compile(
    r"(^|/)(__pycache__|__MACOSX|Thumbs\.db|desktop\.ini|\.DS_Store|\._[^/]*|\.[a-z]+_cache|\.idea|\.ipynb_checkpoints|"
    r"\.venv|[^/]*\.egg-info)(/|$)|\.py[co]$"
)
REASONS = ("is ignored", "is hidden", "does not count in a submission", "is never loaded")


def is_ordinary(left_out: str) -> bool:
    """Return whether a line "name: reason" names a file that neither the student nor the staff would miss."""
    name, _, reason = left_out.rpartition(": ")
    if MADE.search(name):
        return True
    *around, last = name.split("/")
    if reason not in REASONS or len(around) > 1 or any(map(PART.match, around)):
        return False  # more than one folder deep, or within a part
    return last.lower() in REPOSITORY | LOCAL
