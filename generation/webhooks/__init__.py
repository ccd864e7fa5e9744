"""Webhooks on their way out: which addresses may be reached, what is told, and how it is sent."""
