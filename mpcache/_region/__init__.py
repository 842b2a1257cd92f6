"""The private parts of a region.  None of them names CacheRegion: the region hands itself in where one needs it."""
