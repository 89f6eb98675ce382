"""For authors of backends and for our own tests: fixtures (``jmapplug.testing.fixtures``) and contracts."""
