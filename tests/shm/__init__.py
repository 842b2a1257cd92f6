"""Tests of the floor: the engine, its leases, and the segments."""
