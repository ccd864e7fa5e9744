"""The domain's tables."""

from generation.models.attempt import Attempt
from generation.models.batch import Batch
from generation.models.device import Device
from generation.models.diffusion_model import DiffusionModel
from generation.models.generation import Generation
from generation.models.generation_input import GenerationInput, Role
from generation.models.housekeeper import Housekeeper
from generation.models.image import Image
from generation.models.input import Input
from generation.models.limits import UserLimits
from generation.models.usage import DailyUsage
from generation.models.webhook import WebhookAccount, WebhookDelivery, WebhookEvent

__all__ = [
    "Attempt",
    "Batch",
    "DailyUsage",
    "Device",
    "DiffusionModel",
    "Generation",
    "GenerationInput",
    "Housekeeper",
    "Image",
    "Input",
    "Role",
    "UserLimits",
    "WebhookAccount",
    "WebhookDelivery",
    "WebhookEvent",
]
