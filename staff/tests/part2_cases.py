"""A helper shared by several tests of part 2."""

import json


def summary(run) -> dict:
    return json.loads((run / "summary.json").read_text())
