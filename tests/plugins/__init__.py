"""Tests of what plugs regions into other libraries."""
