"""Engines run diffusers pipelines on one device; they know neither Django nor Celery."""
