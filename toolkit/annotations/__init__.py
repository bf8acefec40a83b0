"""Annotation formats: each module reads, checks and writes one format; none knows of a batch."""
