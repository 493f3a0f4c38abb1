"""What holds for every test."""

import pytest
from hypothesis import HealthCheck, settings

# The machine is shared: how long an example takes says nothing about the code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.hookimpl(trylast=True)  # after the order was shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first: those that start processes.

    A core that gets one of them at the end works alone while the others have nothing left.
    """
    items.sort(key=lambda item: item.get_closest_marker("process") is None)
