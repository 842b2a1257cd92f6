"""Plugins by which other libraries use regions; each module needs its library."""
