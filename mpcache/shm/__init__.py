"""Shared memory: segments, and the engine that works in them, for the shm store and the shm mutex.

Depends on api and exception.
"""
