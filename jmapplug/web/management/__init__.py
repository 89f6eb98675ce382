"""The management port: accounts, health, metrics. One process, whatever the number of fronts (process rule 6)."""
