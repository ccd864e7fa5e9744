"""From requests to stored rows: once per key, once per id, and of a batch all or none."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TypeVar

from django.contrib.auth.models import AbstractBaseUser
from django.db import Error, IntegrityError, OperationalError, connection, transaction
from django.db.models.functions import Now

from generation import dispatch, inputs, line
from generation.admission import admit
from generation.errors import IdTaken, InFlight, InvalidParameters, KeyReused
from generation.events.publisher import tell
from generation.inputs import Beginning
from generation.models import Batch, Device, Generation, Input, WebhookAccount
from generation.models.generation import MAX_SEED
from generation.models.webhook import finished_only
from generation.parameters import FindModel, Parameters, find_model, resolve
from generation.quotas import Credential
from generation.terms import Asked, check_terms, fingerprint

PARAMETERS_OF_A_ROW = tuple(Parameters.__dataclass_fields__)
LARGEST_BATCH = 100
RECENT = timedelta(minutes=15)
LONGEST_WAIT_FOR_A_TWIN = "2s"
LOCK_NOT_AVAILABLE = "55P03"  # https://www.postgresql.org/docs/current/errcodes-appendix.html

FindAccount = Callable[[AbstractBaseUser], WebhookAccount | None]
Made = TypeVar("Made", Generation, Batch)


@dataclass(frozen=True, slots=True)
class Draft:
    """A generation that is not stored yet, and the pictures that it begins with; `kept` are stored for it alone."""

    generation: Generation
    beginnings: list[Beginning]
    kept: tuple[Input, ...] = ()


def submit_one(
    asked: Asked,
    *,
    owner: AbstractBaseUser,
    credential: Credential | None,
    pinned_to: Device | None = None,
    is_second_try: bool = False,
) -> Generation:
    """Store one request, or return what an earlier one with the same key or id has made.

    Of a second try, which has neither, it is what an equal request has made a short time ago.
    """
    mark = fingerprint(asked)

    def prepare() -> list[Draft]:
        return keep_pictures([draw_up(asked, mark, owner=owner)], owner=owner)

    def store(drafts: list[Draft]) -> Generation:
        (draft,) = drafts
        generation = draft.generation
        generation.pinned_to = pinned_to
        generation.api_key = credential.name if credential else ""
        with transaction.atomic():
            generation.quotas = admit([generation], owner=owner, credential=credential)
            line.join(generation)
            generation.save(force_insert=True)
            inputs.attach(draft.beginnings, generation)
            transaction.on_commit(lambda: tell(generation), robust=True)
            transaction.on_commit(lambda: dispatch.send_off(generation), robust=True)
        for name in ("deadline_at", "start_by"):
            if getattr(generation, name) is not None:
                delattr(generation, name)  # the database has computed it: Django reads it when it is asked for
        return generation

    def find() -> Generation | None:
        return find_earlier(asked, mark, owner=owner)

    if asked.terms.id or asked.terms.idempotency_key:
        return once(prepare, store, find)
    if is_second_try and (known := find_recent(mark, owner=owner)):
        return known
    with or_let_go(prepare()) as drafts:
        # Preparing takes a while with pictures, and the first try was only just before the second one.
        if is_second_try and (known := find_recent(mark, owner=owner)):
            return known
        return store(drafts)


def submit_many(
    requests: Sequence[Asked], *, owner: AbstractBaseUser, credential: Credential | None, idempotency_key: str = ""
) -> Batch:
    """Store all of the requests as a batch, or none, or return what an earlier one with the same key has made."""
    mark = fingerprint(*requests)

    def prepare() -> list[Draft]:
        return keep_pictures(draw_up_all(requests, owner=owner), owner=owner)

    def store(drafts: list[Draft]) -> Batch:
        batch = Batch(owner_id=owner.pk, size=len(requests), idempotency_key=idempotency_key, fingerprint=mark)
        generations = [draft.generation for draft in drafts]
        models = {generation.model for generation in generations}
        for generation in generations:
            generation.batch = batch
            generation.api_key = credential.name if credential else ""
        with transaction.atomic():
            batch.quotas = admit(generations, owner=owner, credential=credential)
            line.join_all(generations)
            batch.save(force_insert=True)
            Generation.objects.bulk_create(generations)
            for draft in drafts:
                inputs.attach(draft.beginnings, draft.generation)
            transaction.on_commit(lambda: tell_all(generations), robust=True)
            transaction.on_commit(lambda: dispatch.top_up_all(models), robust=True)
        return batch

    def find() -> Batch | None:
        return checked(next(iter(Batch.objects.owned_by(owner).with_key(idempotency_key)), None), mark)

    if idempotency_key:
        return once(prepare, store, find)
    with or_let_go(prepare()) as drafts:
        return store(drafts)


def tell_all(generations: Iterable[Generation]) -> None:
    """Tell who listens of several generations."""
    for generation in generations:
        tell(generation)


def once(
    prepare: Callable[[], list[Draft]], store: Callable[[list[Draft]], Made], find: Callable[[], Made | None]
) -> Made:
    """What `find` finds, or else what `store` stores of what is prepared; of several at the same time, one stores.

    The unique constraints decide, in the transaction that creates. Raises InFlight where the first one takes long.
    """
    if known := find():
        return known
    prepared = prepare()  # outside the transaction: it may decode pictures, and put them on the storage
    try:
        with or_let_go(prepared) as drafts, bounded_wait():
            return store(drafts)
    except IntegrityError:
        if known := find():  # somebody else was faster
            return known
        raise


@contextmanager
def or_let_go(drafts: list[Draft]) -> Iterator[list[Draft]]:
    """Let go of the pictures that were stored for requests which are not stored after all."""
    try:
        yield drafts
    except Exception:
        with suppress(Error):  # then they go when their time is over
            for stored in (stored for draft in drafts for stored in draft.kept):
                inputs.let_go(stored)
        raise


@contextmanager
def bounded_wait() -> Iterator[None]:
    """Raise InFlight rather than wait long for another transaction that stores the same key or id.

    On SQLite writers wait for each other anyway, and the second one finds what the first has stored.
    """
    if connection.vendor != "postgresql":
        yield
        return
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LONGEST_WAIT_FOR_A_TWIN])
            yield
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise InFlight("The same request is being stored right now. Send it again in a second.") from error


def find_earlier(asked: Asked, mark: str, *, owner: AbstractBaseUser) -> Generation | None:
    """What an earlier request with the same id, or else the same key, has made.

    Raises IdTaken or KeyReused if that was another request.
    """
    terms = asked.terms
    generations = Generation.objects.select_related("model")
    if terms.id is None:
        return checked(next(iter(generations.owned_by(owner).with_key(terms.idempotency_key)), None), mark)
    known = generations.filter(pk=terms.id).first()
    if known and (known.owner_id != owner.pk or known.fingerprint != mark):
        raise IdTaken(f"The id {terms.id} is in use for another request. Choose a new one.")
    return checked(known, mark)


def find_recent(mark: str, *, owner: AbstractBaseUser) -> Generation | None:
    """The newest generation that an equal request has made a short time ago."""
    recent = Generation.objects.select_related("model").owned_by(owner).filter(created_at__gt=Now() - RECENT)
    known = recent.filter(fingerprint=mark).order_by("-arrival").first()
    if known is not None:
        known.is_replay = True
    return known


def checked(known: Made | None, mark: str) -> Made | None:
    """What is known under a key, marked as a replay; raises KeyReused if it was made of another request."""
    if known is None:
        return None
    if known.fingerprint != mark:
        raise KeyReused("This idempotency key came with another request before. Use a new key for a new request.")
    known.is_replay = True
    return known


def draw_up_all(requests: Sequence[Asked], *, owner: AbstractBaseUser) -> list[Draft]:
    """The rows of a batch; raises InvalidParameters naming what is wrong with which of the requests."""
    if not 1 <= len(requests) <= LARGEST_BATCH:
        raise InvalidParameters({"requests": f"A batch has 1 to {LARGEST_BATCH} requests, this one {len(requests)}."})
    find, find_account = cache(find_model), cache(WebhookAccount.default_of)  # most often it is always the same one
    drafts: list[Draft] = []
    faults: dict[str, str] = {}
    for index, asked in enumerate(requests):
        try:
            mark = fingerprint(asked)
            drafts.append(draw_up(asked, mark, owner=owner, find_model=find, find_account=find_account))
        except InvalidParameters as error:
            faults |= {f"requests.{index}.{name}": sentence for name, sentence in error.fields.items()}
    if faults:
        raise InvalidParameters(faults)
    return drafts


def draw_up(
    asked: Asked,
    mark: str,
    *,
    owner: AbstractBaseUser,
    find_model: FindModel = find_model,
    find_account: FindAccount = WebhookAccount.default_of,
) -> Draft:
    """The row of one request, and its pictures; nothing is stored yet. Raises InvalidParameters."""
    wishes, terms = asked.wishes, asked.terms
    if wishes.priority > 0 and not getattr(owner, "is_staff", False):
        raise InvalidParameters({"priority": "Only staff may ask for a priority above 0."})
    check_terms(terms)
    parameters = resolve(wishes, draw_seed=draw_seed, find_model=find_model)
    beginnings = inputs.gather(wishes, owner=owner)
    if wishes.image is not None and wishes.width is None and wishes.height is None:
        width, height = beginnings[0].size
        parameters = parameters.fitted_to(width=width, height=height)
    generation = Generation(
        owner_id=owner.pk,
        total_steps=parameters.num_inference_steps,
        idempotency_key=terms.idempotency_key,
        fingerprint=mark,
        has_inputs=bool(beginnings),
        **{name: getattr(parameters, name) for name in PARAMETERS_OF_A_ROW},
    )
    if terms.webhook_url:
        generation.webhook_url, generation.webhook_words = terms.webhook_url, terms.webhook_words
        generation.webhook_events = list(dict.fromkeys(terms.webhook_events or finished_only()))
    elif account := find_account(owner):
        generation.webhook_url = account.url
        generation.webhook_events = list(dict.fromkeys(terms.webhook_events or account.events))
    if terms.id is not None:
        generation.id = terms.id
    if terms.deadline_seconds is not None:
        generation.deadline_at = Now() + timedelta(seconds=terms.deadline_seconds)
    if terms.start_within_seconds is not None:
        generation.start_by = Now() + timedelta(seconds=terms.start_within_seconds)
    return Draft(generation, beginnings)


def keep_pictures(drafts: list[Draft], *, owner: AbstractBaseUser) -> list[Draft]:
    """The same with the pictures stored that were sent along. Raises StorageUnavailable."""
    return [keep_pictures_of(draft, owner=owner) for draft in drafts]


def keep_pictures_of(draft: Draft, *, owner: AbstractBaseUser) -> Draft:
    """The same for one of them."""
    beginnings = inputs.keep_all(draft.beginnings, owner=owner)
    kept = [after.found for before, after in zip(draft.beginnings, beginnings, strict=True) if after is not before]
    return Draft(draft.generation, beginnings, tuple(found for found in kept if isinstance(found, Input)))


def draw_seed() -> int:
    """A seed that nobody can guess, with room above it for the seeds of many images."""
    return secrets.randbelow(MAX_SEED - 1000)
