"""The shared-memory floor: a segment and its engine, on which the shm store and the shm mutex stand.

Leans on api and exception.
"""
