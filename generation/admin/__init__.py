"""The admin of the domain: oversight of generations, the registry of models, the devices."""

from generation.admin import devices, generations, registry

__all__ = ["devices", "generations", "registry"]
