"""Metrics, traces and the fields of log lines: one source, and its ways out of the process."""
