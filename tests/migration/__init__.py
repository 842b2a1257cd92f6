"""Programs that were written for dogpile.cache, and what becomes of them."""
