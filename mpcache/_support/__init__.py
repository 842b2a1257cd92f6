"""Helpers of every floor: sizes, durations, the S3-FIFO policy, hints about mistakes, marks of signal handlers."""
