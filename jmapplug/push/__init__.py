"""Push: the hub merges what workers tell; event streams read it."""
