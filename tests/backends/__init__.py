"""Tests that need real processes: killed, frozen, forked, spawned, and served by gunicorn."""
