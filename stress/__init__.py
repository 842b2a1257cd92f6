"""``python -m stress`` from a checkout: the same as ``mpcache stress``; the tool lies in mpcache/stress/.

Leans on it.
"""
