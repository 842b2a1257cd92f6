"""The stored form of a value: its header, which only this package reads and writes, and its pickle."""
