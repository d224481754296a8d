"""Decide which entries of a submission count, and where they belong in the copy."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from staff.grading.archives.entry import Entry
from staff.grading.archives.submission import (
    CODE,
    PACKED,
    PART,
    PARTS_DEPTH,
    Limits,
    Names,
    SubmissionError,
    key,
    part_folders,
    show,
)

NEVER = {"__pycache__", "__macosx", "venv", "env", "node_modules", "tests", "data"}  # hidden names do not count either
NEVER_IN_A_PART = {
    "course", "conftest.py", "pytest.ini", "tox.ini", "pyproject.toml", "setup.cfg", "setup.py", "sitecustomize.py",
    "usercustomize.py",
}  # fmt: skip
NEVER_ENDINGS = (".pyc", ".pyo", ".so", ".pyd", ".dll", ".dylib", ".pth", ".egg-link")
ANSWERS, LOGS = "answers.md", "logs"
HAND_IN = "submission.zip"  # built by `make submission`
OF_A_RUN = (
    "summary.json", "report.html", "hparams.yaml", "events.out.tfevents.*", "checkpoints/*.ckpt", "figures/*",
)  # fmt: skip


def names_of(name: str) -> Names:
    """Split a path into its components.

    Raises:
        ValueError: the path is not inside the submission, or not printable; the message gives the reason.
    """
    name = name.replace("\\", "/")  # some Windows tools write backslashes
    names = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise ValueError("is an absolute path")
    if ".." in names:
        raise ValueError("leads out of its folder")
    if not name.isprintable():
        raise ValueError("has an unprintable character in its name")
    return names


def never_counts(names: Names) -> tuple[int, str] | None:
    """Return the index of the first name that always excludes a path, and the reason; None if there is none."""
    for place, name in enumerate(names):
        if name.lower() in NEVER:
            return place, "does not count in a submission"
        if name.startswith("."):
            return place, "is hidden"
    return (len(names) - 1, "is never loaded") if names[-1].lower().endswith(NEVER_ENDINGS) else None


@dataclass
class Plan:
    """Where each entry goes, or why it is left out."""

    files: dict[Names, Entry] = field(default_factory=dict)  # place in the copy -> file
    left_out: dict[str, str] = field(default_factory=dict)  # name in the submission -> reason
    parts: dict[int, Names] = field(default_factory=dict)  # number -> folder in the submission
    lacks: dict[int, str] = field(default_factory=dict)  # number -> why the part was not found
    flat: list[str] = field(default_factory=list)  # likely mistakes if no part was found

    def problems(self) -> list[str]:
        """Return the problems as sentences for the student."""
        if not self.parts and not any(lack.startswith("Several") for lack in self.lacks.values()):
            return [f"It contains none of the folders {', '.join(part_folders().values())}.", *self.flat]
        return [self.lacks[number] for number in sorted(self.lacks)]

    def leave_out(self, names: Names | str, reason: str) -> None:
        self.left_out.setdefault(names if isinstance(names, str) else "/".join(names), reason)


def make_plan(entries: list[Entry], limits: Limits) -> Plan:
    """Plan which entries count.

    Raises:
        SubmissionError: the entries that count exceed a limit.
    """
    plan = Plan()
    possible = list(_possible(entries, plan))
    _choose_parts([names for names, entry in possible if not entry.folder], plan)
    root = _root(plan) if plan.parts else _root_of_runs([names for names, entry in possible if not entry.folder])
    claimed: dict[Names, Names] = {}
    for names, entry in possible:
        place = _place(names, root, plan)
        if not isinstance(place, tuple):
            _leave_out_of_root(names, root, place, entry, plan)
            continue
        _check_limits(names, place, limits)
        if not entry.folder:
            _claim(names, place, entry, claimed, plan)
    _leave_out_runs(limits, plan)
    if len(plan.files) > limits.files:
        raise SubmissionError(f"It has {len(plan.files)} files in its parts and logs; the limit is {limits.files}.")
    return plan


def _possible(entries: list[Entry], plan: Plan) -> Iterator[tuple[Names, Entry]]:
    """Yield the entries that may count, with their names; add the others to `plan.left_out`."""
    for entry in entries:
        try:
            names = names_of(entry.name)
        except ValueError as error:
            plan.leave_out(entry.name, str(error))
            continue
        if not names:
            continue  # the folder itself
        if never := never_counts(names):
            plan.leave_out(names[: never[0] + 1], never[1])
        elif entry.refusal:
            plan.leave_out(names, entry.refusal)
        else:
            yield names, entry


def _choose_parts(files: list[Names], plan: Plan) -> None:
    """Find each part's folder, which must contain code; prefer one next to the most parts, then the least nested."""
    found: dict[int, set[Names]] = {}
    for names in files:
        if 2 <= len(names) <= PARTS_DEPTH + 2 and names[-1].lower().endswith(CODE) and PART.match(names[-2]):
            found.setdefault(int(PART.match(names[-2])[1]), set()).add(names[:-1])
    together = Counter(parent for folders in found.values() for parent in {folder[:-1] for folder in folders})
    for number, right in part_folders().items():

        def rank(folder: Names, right: str = right) -> tuple[int, int, bool]:
            return -together[folder[:-1]], len(folder), folder[-1] != right

        folders = sorted(sorted(found.get(number, ())), key=rank)
        if not folders:
            plan.lacks[number] = f"There is no folder {right} with Python files in it."
        elif len(folders) > 1 and rank(folders[0]) == rank(folders[1]):
            listed = ", ".join(show("/".join(folder)) for folder in folders[:5])
            plan.lacks[number] = f"Several folders could be {right} ({listed}); hand in one, named {right}."
        else:
            plan.parts[number] = folders[0]
    if not plan.parts:
        plan.flat += _lies_flat(files)


def _lies_flat(files: list[Names]) -> Iterator[str]:
    """Yield the likely mistake if no folder of a part was handed in."""
    code = sorted({show(names[-1]) for names in files if names[-1].lower().endswith(CODE)})
    folders = ", ".join(part_folders().values())
    if code:
        some = ", ".join(code[:5]) + (", ..." if len(code) > 5 else "")
        yield f"The files {some} are not in the folders of the parts; they belong in {folders}."


def _root(plan: Plan) -> Names:
    """Return the folder that contains most of the parts."""
    parents = Counter(folder[:-1] for folder in plan.parts.values())
    return min(parents, key=lambda parent: (-parents[parent], len(parent), parent), default=())


def _root_of_runs(files: list[Names]) -> Names:
    """Return the folder that contains logs/ if there are no parts, as in an archive with only the runs."""
    found = {names[: names.index(LOGS)] for names in files if LOGS in names[:-2]}
    return min((root for root in found if len(root) <= PARTS_DEPTH), key=lambda root: (len(root), root), default=())


def _place(names: Names, root: Names, plan: Plan) -> Names | str:
    """Return where an entry goes in the copy, or the reason why it is left out."""
    for number, folder in plan.parts.items():
        if names[: len(folder)] == folder and len(names) > len(folder):
            inside = names[len(folder) :]
            if any(name.lower() in NEVER_IN_A_PART for name in inside):
                return "does not count in a submission"
            return (part_folders()[number], *inside)
    inside = names[len(root) :] if names[: len(root)] == root else ()
    if len(inside) == 1 and inside[0].lower() == ANSWERS:
        return (ANSWERS,)
    if inside and inside[0] == LOGS:
        return inside if _of_a_run(inside) else "is not one of the files that the grader reads from a run"
    return "is ignored"


def _of_a_run(names: Names) -> bool:
    """Return whether logs/PROGRAM/RUN/... is a file that the grader reads."""
    patterns = [pattern.split("/") for pattern in OF_A_RUN]
    return any(len(pattern) == len(names[3:]) and all(map(fnmatchcase, names[3:], pattern)) for pattern in patterns)


def _leave_out_of_root(names: Names, root: Names, reason: str, entry: Entry, plan: Plan) -> None:
    """Report an entry as left out: each file within a part or logs/, otherwise only the outermost folder."""
    ways = [root, *plan.parts.values(), (*root, LOGS)]
    same = max(len(os.path.commonprefix([names, way])) for way in ways)
    inside = any(names[: len(way)] == way for way in ways[1:])
    if inside and not entry.folder:
        plan.leave_out(names, reason)
    elif not inside and same < len(names):
        plan.leave_out(names[: same + 1], reason)


def _check_limits(names: Names, place: Names, limits: Limits) -> None:
    if len(place) - 1 > limits.depth:
        raise SubmissionError(f"{show('/'.join(names))} is nested in more than {limits.depth} folders.")
    for name in place:
        if len(name.encode("utf-8", "surrogateescape")) > limits.name:
            raise SubmissionError(f"The name {show(name[:60])}... is longer than {limits.name} bytes.")


def _claim(names: Names, place: Names, entry: Entry, claimed: dict[Names, Names], plan: Plan) -> None:
    """Assign the place to the entry, unless an earlier file or folder with an equivalent name already has it."""
    keys = [tuple(map(key, place[:end])) for end in range(1, len(place) + 1)]
    folders = list(zip(keys[:-1], (place[:end] for end in range(1, len(place))), strict=True))
    taken = keys[-1] in claimed or any(claimed.get(key, folder) != folder for key, folder in folders)
    if taken or any(folder in plan.files for _, folder in folders):
        plan.leave_out(names, "has the same name as another file, or one that differs only in case or Unicode form")
        return
    claimed.update(folders)
    claimed[keys[-1]] = place
    plan.files[place] = entry


def overlay(plans: list[tuple[str, Plan]]) -> Plan:
    """Merge the plans of a submission's files, given as (file name, plan) pairs. Each part, and each program's runs,
    come from the first file that has them."""
    if len(plans) == 1:
        return plans[0][1]
    whole, lacks = Plan(), {}
    for name, plan in plans:
        taken = {_unit(place) for place in whole.files}
        whole.files |= {place: entry for place, entry in plan.files.items() if _unit(place) not in taken}
        whole.parts = {**plan.parts, **whole.parts}
        for number, lack in plan.lacks.items():
            lacks[number] = min(lack, lacks.get(number, lack))  # prefer "Several folders ..." to "There is no ..."
        whole.flat += [each for each in plan.flat if each not in whole.flat]
        for left, reason in plan.left_out.items():
            whole.leave_out(f"{name}/{left}", reason)
    whole.lacks = {number: lack for number, lack in lacks.items() if number not in whole.parts}
    return whole


def _unit(place: Names) -> Names:
    return place[:2] if place[0] == LOGS else place[:1]


def inner_archives(entries: list[Entry], most: int = 4) -> list[Entry]:
    """Return the first `most` archives inside a submission, ignoring those that are nested too deeply."""
    possible = [(names, entry) for names, entry in _possible(entries, Plan()) if not entry.folder]
    packed = [entry for names, entry in possible if len(names) <= PARTS_DEPTH and names[-1].lower().endswith(PACKED)]
    return packed[:most]


def packed_hand_in(entries: list[Entry], plan: Plan) -> list[Entry]:
    """Return submission.zip next to the parts, as in a pushed repository: it may contain files that the rest lacks."""
    place = (*_root(plan), HAND_IN)
    return [entry for names, entry in _possible(entries, Plan()) if names == place and not entry.folder]


def _leave_out_runs(limits: Limits, plan: Plan) -> None:
    """Keep at most `limits.runs` runs: the newest of each program, then the second newest of each, etc."""
    runs = sorted({place[:3] for place in plan.files if place[0] == LOGS}, key=_natural, reverse=True)
    nth: Counter[str] = Counter()
    order = []
    for run in runs:
        nth[run[1]] += 1
        order.append((nth[run[1]], run))
    for _, run in sorted(order)[limits.runs :]:
        for place in [place for place in plan.files if place[:3] == run]:
            del plan.files[place]
        plan.leave_out(run, f"exceeds the limit of {limits.runs} runs")


def _natural(names: Names) -> list[tuple[str, int]]:
    """Return a sort key in natural order: version_10 comes after version_9."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d{0,18})", "/".join(names))]
