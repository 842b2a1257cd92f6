"""The private parts of a region.  None of them names the class of a region: it hands itself in where one needs it."""
