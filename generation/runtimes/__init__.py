"""Runtimes are the ways from a worker to an engine; they know neither Django nor Celery."""
