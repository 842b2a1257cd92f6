"""The private parts of :mod:`mpcache.keys`: make a key from the arguments of a call."""
