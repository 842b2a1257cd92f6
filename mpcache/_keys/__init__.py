"""The private parts of :mod:`mpcache.keys`: how the arguments of a call become a key."""
