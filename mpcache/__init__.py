"""One cache for all your workers: dogpile.cache's regions, with the store and its locks in shared memory."""
