"""Test of a class of 60, from files to grades: five systems, a roster, groups, late and damaged files, two graders."""

import random
from pathlib import Path

from class_cases import PARTS, TESTS, QuickJudge, parts, rows, unpacked, zipped

SYSTEMS = ("canvas", "moodle", "brightspace", "gradescope", "github")
DAMAGED, NOTHING, OTHER = (7, 23, 41), (11, 30), (16,)  # student numbers; OTHER submitted a .7z file
LATE = (3, 12, 27, 59)  # their late attempt is their second or their only one
PAIRS = {(20, 25), (36, 38)}  # groups; the first member submits


def has(number: int) -> list[str]:
    """Return the parts that a student did: at least one, in any combination."""
    return [part for bit, part in enumerate(PARTS) if (number % 7 + 1) >> bit & 1]


def automatic(number: int) -> float:
    """Return the points of the tests of the parts that a student did."""
    done = {str(PARTS.index(part) + 1) for part in has(number)}
    return sum(test["points"] for test in TESTS if test["question"].split(".")[0] in done)


def submission(number: int, scratch: Path, attempt: str = "") -> bytes:
    """Return a zip with the parts that a student did, or with only the first of them if the attempt is "old"."""
    folders = has(number) if attempt != "old" else has(number)[:1]
    return zipped(scratch / f"{number}{attempt}.zip", parts(f"s{number} {attempt}", folders)).read_bytes()


def deliver(root: Path, number: int, content: bytes, late: bool = False) -> None:
    """Save a student's archive where the student's system would; `late` marks a later delivery."""
    system, name = SYSTEMS[number % 5], f"Name{number} Last{number}"
    if system == "canvas":
        again = "-1" if late else ""
        path = root / system / f"last{number}name{number}_{1000 + number}_{number + 500 * late}_work{again}.zip"
    elif system == "moodle":
        path = root / f"{system}{late:d}" / f"{name}_{2000 + number}_assignsubmission_file_" / "work.zip"
    elif system == "brightspace":
        path = root / system / f"{3000 + number}-9 - {name} - Nov {20 + late}, 2026 1005 AM" / "work.zip"
    elif system == "gradescope":
        path = root / f"{system}{late:d}" / f"submission_{number}" / "work.zip"
    else:
        path = root / f"{system}{late:d}" / f"practical3-git{number}" / "work.zip"
    unpacked(path.parent, {path.name: content})
    if system == "gradescope":
        with open(path.parent.parent / "submission_metadata.yml", "a") as file:
            file.write(f"submission_{number}:\n  :submitters:\n  - :sid: g{number}\n")
            file.write(f"  :created_at: 2026-11-2{late:d} 10:00:00\n")


def roster(path: Path) -> None:
    group = {number: f"team{min(pair)}" for pair in PAIRS for number in pair}
    lines = ["id;name;group;" + ";".join(SYSTEMS)]
    for number in range(60):
        names = (1000 + number, 2000 + number, 3000 + number, f"g{number}", f"git{number}")
        cells = [str(each) if place == number % 5 else "" for place, each in enumerate(names)]
        lines.append(f"id{number:02};Name{number} Last{number};{group.get(number, '')};" + ";".join(cells))
    path.write_text("\n".join(lines))


def test_a_class_of_sixty(tmp_path, grade):
    handed = tmp_path / "handed"
    roster(tmp_path / "roster.csv")
    second = {second for _, second in PAIRS}
    order = [number for number in range(60) if number not in {*NOTHING, *second, LATE[-1]}]
    random.Random(0).shuffle(order)
    for number in order:
        content = submission(number, tmp_path / "scratch", "old" if number in LATE else "")
        if number in DAMAGED:
            content = content[: len(content) // 2]
        deliver(handed, number, content)
    seven = next(path for path in handed.rglob("work.zip") if "Name16 " in str(path))
    seven.rename(seven.with_name("work.7z"))
    assert grade(*sorted(handed.iterdir()), "--roster", "roster.csv") == 0
    for number in LATE:
        deliver(handed, number, submission(number, tmp_path / "scratch", "new"), late=True)
    graders = {"jo": range(0, 30), "kim": range(25, 60)}
    for name, numbers in graders.items():
        lines = [f"id{number:02},{number % 3},{number % 4 / 2},{name}" for number in numbers if number not in second]
        (tmp_path / f"{name}.csv").write_text("\n".join(["student,Q1.1,Q1.2,by", *lines]))
    readable = 60 - len(NOTHING) - len(second) - len(DAMAGED) - len(OTHER)
    words = [*sorted(handed.iterdir()), "--manual", "jo.csv", "--manual", "kim.csv"]
    for attempt in range(2):
        assert grade(*words) == 0, grade.said
        assert not attempt or f"{readable} already judged" in grade.said
        check(rows(tmp_path))
    assert len(QuickJudge.judged) == readable + len(LATE) - 1, "each is judged once; one student submitted only late"


def check(found: dict[str, dict]) -> None:
    leaders = {second: first for first, second in PAIRS}
    assert list(found) == [f"id{number:02}" for number in range(60)]
    for number in range(60):
        row, who = found[f"id{number:02}"], leaders.get(number, number)
        status = "graded" if has(who) == PARTS else "partly graded"
        status = "not readable" if number in (*DAMAGED, *OTHER) else status
        status = "nothing handed in" if number in NOTHING else status
        points = automatic(who) if status.endswith("graded") else 0
        manual = who % 3 + who % 4 / 2
        assert (row["status"], row["name"]) == (status, f"Name{number} Last{number}"), row
        assert (float(row["automatic"]), float(row["manual"])) == (points, manual), row
        assert float(row["total"]) == points + manual
