"""The domain's tables."""

from generation.models.attempt import Attempt
from generation.models.device import Device
from generation.models.diffusion_model import DiffusionModel
from generation.models.generation import Generation
from generation.models.housekeeper import Housekeeper
from generation.models.image import Image

__all__ = ["Attempt", "Device", "DiffusionModel", "Generation", "Housekeeper", "Image"]
