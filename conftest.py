"""The fixtures are those that we ship for authors of backends."""

pytest_plugins = ["jmapplug.testing.fixtures"]
