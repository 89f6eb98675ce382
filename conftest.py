"""The fixtures are those that we ship for authors of backends. No property is judged by the time it takes."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["jmapplug.testing.fixtures"]

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
