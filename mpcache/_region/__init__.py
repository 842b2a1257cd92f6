"""The private parts of a region.  None of them names the class of a region: the region passes itself in."""
