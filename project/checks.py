"""What `manage.py check` says about the configuration beyond Django's own checks."""

import difflib
import stat
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from project.settings import env

LONGEST_PROMPT = 5000
S3_NAMES = "PICTOR_S3_"  # which are only read where there is a bucket
# Set by `manage.py workers` for each worker, and by tests of failures; not by people.
OTHER_NAMES = {"PICTOR_DEVICE", "PICTOR_KILL_POINTS"}


@register
def names_are_known(**_: Any) -> list[CheckMessage]:
    """Report variables that look like settings of ours and are not: most often misspelt ones."""
    found: list[CheckMessage] = []
    for name in env.unknown_names(prefix="PICTOR_"):
        if name in OTHER_NAMES:
            continue
        if name.startswith(S3_NAMES) and not settings.S3_BUCKET:
            found.append(Warning(f"{name} does nothing.", hint="Set PICTOR_S3_BUCKET, or remove it.", id="pictor.W001"))
            continue
        close = difflib.get_close_matches(name, env.names, n=1)
        hint = f"Did you mean {close[0]}?" if close else "docs/configuration.md lists all settings."
        found.append(Warning(f"{name} is set, but there is no such setting.", hint=hint, id="pictor.W001"))
    return found


@register
def delivery_fits_the_storage(**_: Any) -> list[CheckMessage]:
    """Only S3 can hand out links of its own."""
    if settings.IMAGE_DELIVERY == "redirect" and not settings.S3_BUCKET:
        message = "PICTOR_IMAGE_DELIVERY=redirect needs images in S3, but PICTOR_S3_BUCKET is not set."
        return [Error(message, hint="Set PICTOR_S3_BUCKET, or use PICTOR_IMAGE_DELIVERY=stream.", id="pictor.E001")]
    return []


@register
def prompts_fit_into_the_files(**_: Any) -> list[CheckMessage]:
    """JPEG has room for 64 KiB of metadata, and the prompts are part of it."""
    if settings.MAX_PROMPT_LENGTH > LONGEST_PROMPT:
        message = (
            f"PICTOR_MAX_PROMPT_LENGTH is more than {LONGEST_PROMPT}: such a prompt does not fit into a JPEG file."
        )
        return [Error(message, id="pictor.E002")]
    return []


@register
def requests_can_be_counted(**_: Any) -> list[CheckMessage]:
    """With a broker of one's own and no Redis beside it, nothing counts requests."""
    if settings.MAX_REQUESTS_PER_MINUTE and not settings.REDIS_URL and settings.BROKER_URL.startswith("amqp"):
        message = "PICTOR_MAX_REQUESTS_PER_MINUTE limits nothing: requests are counted in Redis, and there is none."
        return [Warning(message, hint="Set REDIS_URL.", id="pictor.W003")]
    return []


@register
def data_is_closed_to_others(**_: Any) -> list[CheckMessage]:
    """Report a data folder that we could not close ourselves, such as a mounted volume of somebody else's."""
    if settings.DATA_DIR.stat().st_mode & stat.S_IRWXO:
        message = f"Every user of this machine may look into {settings.DATA_DIR}, where images and passwords are."
        return [Warning(message, hint="Its owner can close it: chmod o= FOLDER.", id="pictor.W002")]
    return []
