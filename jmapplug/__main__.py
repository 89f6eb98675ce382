"""``python -m jmapplug``."""

from jmapplug.cli import main

main()
