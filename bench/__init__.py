"""Measurements against a real Dovecot, side by side in one run: ``make bench`` (``BENCH="--big"`` adds 100,000)."""
