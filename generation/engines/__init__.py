"""Engines run diffusers pipelines on one device; they know neither Django nor Celery."""

import os

# diffusers and transformers read these once, when they are imported, and nothing of an engine is imported before this.
os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # else it warns about torchvision, which nothing here needs
