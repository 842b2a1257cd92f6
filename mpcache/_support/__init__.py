"""Helpers of every layer: sizes, durations, the S3-FIFO policy, hints about mistakes, errors of signal handlers."""
