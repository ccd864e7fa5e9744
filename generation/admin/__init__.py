"""The admin of the domain: oversight of generations, the registry of models, the devices."""

from generation.admin import devices, generations, limits, registry

__all__ = ["devices", "generations", "limits", "registry"]
