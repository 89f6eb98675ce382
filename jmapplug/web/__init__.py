"""The front: authenticates, checks limits and shapes, passes bytes. Knows no store and no data type."""
