"""The pictures that generations begin with: from a request to rows and files, and their end."""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db.models.functions import Now

from generation import storage, uploads
from generation.conf import configuration
from generation.engines.encoding import EncodedImage
from generation.errors import InvalidParameters
from generation.models import Generation, GenerationInput, Image, Input, Role
from generation.models.input import unguessable_name
from generation.parameters import Wishes
from generation.sources import EarlierImage, Source, StoredInput, Upload
from generation.uploads import DecodedPicture, RefusedPicture

ALREADY = timedelta(seconds=1)  # SQLite knows no two moments within a millisecond


@dataclass(frozen=True, slots=True)
class Beginning:
    """One picture of a request that was found or decoded, and is not stored yet if it was sent along."""

    role: Role
    position: int
    found: Input | Image | DecodedPicture

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.found.width, self.found.height


def upload(file: Upload, *, owner: AbstractBaseUser) -> Input:
    """Take in one picture. Raises InvalidParameters, with nothing stored, or StorageUnavailable."""
    try:
        return keep(uploads.decode(file), owner=owner)
    except RefusedPicture as error:
        raise InvalidParameters({"file": str(error)}) from error


def gather(wishes: Wishes, *, owner: AbstractBaseUser) -> list[Beginning]:
    """Find or decode all pictures of a request; nothing is stored. Raises InvalidParameters."""
    asked = [
        (Role.IMAGE, [] if wishes.image is None else [wishes.image]),
        (Role.MASK, [] if wishes.mask is None else [wishes.mask]),
        (Role.REFERENCE, list(wishes.reference_images)),
    ]
    beginnings: list[Beginning] = []
    faults: dict[str, str] = {}
    for role, sources in asked:
        for position, source in enumerate(sources):
            try:
                beginnings.append(Beginning(role, position, find(source, owner=owner)))
            except RefusedPicture as error:
                faults[role] = str(error)
    sizes = {beginning.role: beginning.size for beginning in beginnings if beginning.role != Role.REFERENCE}
    if not faults and Role.MASK in sizes and sizes[Role.MASK] != sizes[Role.IMAGE]:
        mask, image = ("{} x {}".format(*sizes[role]) for role in (Role.MASK, Role.IMAGE))
        faults["mask"] = f"It has {mask} pixels and the image {image}. Both need the same size."
    if faults:
        raise InvalidParameters(faults)
    return beginnings


def find(source: Source, *, owner: AbstractBaseUser) -> Input | Image | DecodedPicture:
    """The picture that is meant; raises RefusedPicture, also for what belongs to somebody else."""
    match source:
        case Upload():
            return uploads.decode(source)
        case StoredInput(id=wanted):
            stored = Input.objects.usable().filter(owner=owner.pk, pk=wanted).first()
            if stored is None:
                raise RefusedPicture(f"There is no input {wanted}, or none any more. Upload the picture again.")
            return stored
        case EarlierImage(generation_id=earlier, index=index):
            results = Image.objects.filter(generation=earlier, generation__owner=owner.pk, index=index)
            image = results.first()
            if image is None:
                raise RefusedPicture(f"There is no image {index} of a generation {earlier}, or none any more.")
            return image


def keep_all(beginnings: list[Beginning], *, owner: AbstractBaseUser) -> list[Beginning]:
    """The same with what was sent along stored as inputs. Raises StorageUnavailable."""
    return [
        Beginning(each.role, each.position, keep(each.found, owner=owner))
        if isinstance(each.found, DecodedPicture)
        else each
        for each in beginnings
    ]


def keep(picture: DecodedPicture, *, owner: AbstractBaseUser) -> Input:
    """Store a decoded picture as an input; the row comes first, so that no file is without one."""
    stored = Input.objects.create(
        owner_id=owner.pk,
        file=unguessable_name(),
        width=picture.width,
        height=picture.height,
        size_bytes=len(picture.data),
        sha256=sha256(picture.data).hexdigest(),
        expires_at=Now() + configuration().input_lifetime,
    )
    storage.save(str(stored.file.name), EncodedImage(picture.data, "image/png", "png"), pauses=())
    Input.objects.filter(pk=stored.pk).update(stored_at=Now())
    stored.refresh_from_db()
    return stored


def attach(beginnings: list[Beginning], generation: Generation) -> None:
    """Note what a new generation begins with, in its transaction. Raises InvalidParameters for what has just gone."""
    for each in beginnings:
        use = GenerationInput(generation=generation, role=each.role, position=each.position)
        match each.found:
            case Input() as stored:
                if not renew(stored):
                    raise InvalidParameters({each.role: "The input has just expired. Upload the picture again."})
                use.input, use.sha256 = stored, stored.sha256
            case Image() as image:
                use.earlier_generation_id, use.earlier_index = image.generation_id, image.index
                use.sha256 = image.sha256
        use.save(force_insert=True)


def renew(stored: Input) -> bool:
    """Let its time begin anew; False if the housekeeper, with a conditional UPDATE of the same row, came first."""
    renewed = Input.objects.usable().filter(pk=stored.pk).update(expires_at=Now() + configuration().input_lifetime)
    return bool(renewed)


def let_go(stored: Input) -> None:
    """Remove it at its owner's wish: now, or else when no generation has it any more."""
    mine = Input.objects.filter(pk=stored.pk)
    mine.update(expires_at=Now() - ALREADY)
    mine.expired().unused().update(removed_at=Now())  # who has just asked for it has made its time begin anew


def sources_of(generation: Generation) -> dict[str, Any]:
    """What the generation began with, as a request asks for it."""
    if not generation.has_inputs:
        return {}
    by_role: dict[str, list[Source]] = {role: [] for role in Role}
    for use in generation.inputs.all():
        by_role[use.role].append(source_of(use))
    single: dict[str, Any] = {role: by_role[role][0] for role in (Role.IMAGE, Role.MASK) if by_role[role]}
    return single | {"reference_images": tuple(by_role[Role.REFERENCE])}


def source_of(use: GenerationInput) -> StoredInput | EarlierImage:
    """Where one picture of a generation came from."""
    if use.input_id is not None:
        return StoredInput(use.input_id)
    return EarlierImage(use.earlier_generation_id, use.earlier_index)  # type: ignore[arg-type]  # a constraint says so


# --- For the housekeeper, and for users who leave ---------------------------------------------------------


def expire() -> None:
    """Let go of what nobody has and whose time is over; what a generation has is looked at again later."""
    Input.objects.expired().used().update(expires_at=Now() + configuration().input_lifetime)
    Input.objects.expired().unused().update(removed_at=Now())


def remove_expired(*, most: int) -> int:
    """Delete files and rows of what was let go; returns how many. What the storage refuses is tried again."""
    removable = Input.objects.removed().order_by("removed_at")[:most]
    return sum(1 for stored in removable if storage.try_to_remove(str(stored.file.name)) and stored.delete())


def remove_all_of(owner: AbstractBaseUser) -> None:
    """Delete all that a user has uploaded, generations of theirs being gone already."""
    for stored in Input.objects.filter(owner=owner.pk):
        storage.remove(str(stored.file.name))
        stored.delete()
