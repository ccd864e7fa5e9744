"""Pictor as a Django project: settings, paths, and the commands that run its processes."""

from celery_app import app as celery_app

__all__ = ["celery_app"]
