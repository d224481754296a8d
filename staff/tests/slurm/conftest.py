"""Deselect these tests unless `-m` names them: they take minutes and start daemons."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slurm" in config.option.markexpr:
        return
    not_asked_for = [item for item in items if item.get_closest_marker("slurm")]
    config.hook.pytest_deselected(items=not_asked_for)
    items[:] = [item for item in items if item not in not_asked_for]
