"""The mutexes against their promises: one suite for all, and what each primitive has of its own."""
