"""The fixtures are those that we ship for authors of backends. No property is judged by the time it takes."""

import gevent
from hypothesis import HealthCheck, settings

pytest_plugins = ["jmapplug.testing.fixtures"]

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_runtest_setup() -> None:
    """Tests before this one may not have run the loop for minutes: what gevent times now would be over at once."""
    gevent.get_hub().loop.update_now()
