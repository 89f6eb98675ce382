"""The checker is imported by its full name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
