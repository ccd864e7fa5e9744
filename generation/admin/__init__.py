"""The admin of the domain: oversight of generations, the registry of models, the devices, the webhooks."""

from generation.admin import devices, generations, registry, webhooks

__all__ = ["devices", "generations", "registry", "webhooks"]
