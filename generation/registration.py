"""What a worker has in hand from its start: the runtime that the settings name, and the row of its device."""

from django.db.models.functions import Now

from generation.conf import configuration
from generation.devices import LocalDevice, local_device, local_host
from generation.models import Device
from generation.runtimes.base import Runtime
from generation.runtimes.choice import Wishes, choose


def register_device(runtime: Runtime, *, name: str) -> Device:
    """Create or refresh the row of this process's device with what the runtime says about it."""
    local = local_device()
    description = runtime.describe()
    facts = {
        "kind": local.kind,
        "index": local.index,
        "name": description.name,
        "memory_bytes": description.memory_bytes,
        "runtime": name,
        "slots": configuration().slots[local.kind],
        "heartbeat_at": Now(),
        "loaded": [],
    }
    device, _ = Device.objects.update_or_create(host=local_host(), label=local.label, defaults=facts)
    return device


def runtime_wishes(device: LocalDevice) -> tuple[str, Wishes]:
    """The name of the device's runtime, and what the settings say about it."""
    settings = configuration()
    wishes = Wishes(
        device=device.torch_name,
        folder=settings.engine_dir,
        compiles=settings.compiles,
        engine=settings.engine,
        address=settings.runtime_address,
        token=settings.runtime_token,
        upstreams=settings.gateway_upstreams,
        api_key=settings.gateway_api_key,
    )
    return choose(settings.runtime, label=device.label), wishes
