"""Build the zip for Gradescope: the grader, its tests, and the scripts that Gradescope runs."""

import configparser
import io
import re
import zipfile
from pathlib import Path

from course.files import write_whole
from course.flags import REPOSITORY
from staff.release.build import tracked

BROKEN = "The grader failed. This says nothing about your submission; please tell the staff."
SOURCES = (
    "conftest.py", "course/", "staff/", "tests/", "LICENSE", "README.md", "constraints.txt", "pyproject.toml",
    "setup.cfg",
)  # fmt: skip
STAFF = "staff/tests/"
FOR_TESTS = ("pytest", "scipy")  # the packages in the extra `dev` that the graded suites import
SETUP = """#!/usr/bin/env bash
# Gradescope runs this once, as root, when the image is built.
set -euo pipefail
root="${AUTOGRADER_ROOT:-/autograder}"
apt-get update
apt-get install -y --no-install-recommends python3 python3-venv
python3 -m venv "$root/venv"
"$root/venv/bin/python" -m pip install --no-cache-dir -r "$root/source/requirements.txt" \\
  -c "$root/source/constraints.txt"
cd "$root/source"
"$root/venv/bin/python" -m course.data mnist  # needed to judge submitted runs
"""
RUN = """#!/usr/bin/env bash
# Gradescope runs this for each submission.
root="${AUTOGRADER_ROOT:-/autograder}"
python="$root/venv/bin/python"
[ -x "$python" ] || python=python3
cd "$root/source" || exit 1
chmod -R go-rwx "$root/source" "$root/submission"  # in case submissions must run as another user
OMP_NUM_THREADS=1 "$python" -m staff.grading.gradescope --root "$root"
if [ ! -s "$root/results/results.json" ]; then
  mkdir -p "$root/results"
  echo '{"score": 0, "output": "@BROKEN@", "stdout_visibility": "hidden"}' > "$root/results/results.json"
fi
exit 0
"""


def build_autograder(out: Path, root: Path = REPOSITORY) -> Path:
    """Write the zip for Gradescope from the files tracked by git. The same tree gives the same bytes.

    Raises:
        ReleaseError: the tracked files cannot be determined.
        OSError: the zip cannot be written.
    """
    files = {
        file: (root / file).read_bytes()
        for file in tracked(root)
        if file.startswith(SOURCES) and not file.startswith(STAFF)
    }
    files["requirements.txt"] = "\n".join([*requirements(root / "setup.cfg"), ""]).encode()
    files["setup.sh"] = SETUP.encode()
    files["run_autograder"] = RUN.replace("@BROKEN@", BROKEN).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.compress_type = 3, zipfile.ZIP_DEFLATED  # 3: Unix, needed for file modes
            entry.external_attr = (0o100755 if name in ("setup.sh", "run_autograder") else 0o100644) << 16
            archive.writestr(entry, content)
    return write_whole(out, buffer.getvalue())


def requirements(setup: Path) -> list[str]:
    """Return the packages in setup.cfg that grading requires."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(setup.read_text("utf-8"))
    wanted = settings["options"]["install_requires"].split("\n")
    extra = settings["options.extras_require"]["dev"].split("\n")
    wanted += [each for each in extra if re.match(r"[\w-]*", each)[0] in FOR_TESTS]
    return [each.strip() for each in wanted if each.strip() and not each.strip().startswith("#")]
