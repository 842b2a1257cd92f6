"""``python -m stress`` in a checkout: the same as ``mpcache stress``.  The tool is mpcache/stress/.

Depends on mpcache.stress.
"""
