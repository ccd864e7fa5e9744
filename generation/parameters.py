"""From what a client wishes to what will be drawn: defaults filled in, limits checked, a seed fixed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from generation.conf import configuration
from generation.errors import InvalidParameters
from generation.models.diffusion_model import SIZE_MULTIPLE, DiffusionModel
from generation.models.generation import MAX_SEED
from generation.sources import Source

IMAGE_FORMATS = ("png", "webp", "jpeg")
MIN_SIZE = 64
PRIORITIES = (-1, 0, 1)
MAX_REFERENCE_IMAGES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a client asks for; None means: as the model has it."""

    prompt: str
    model: str | None = None
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    num_images: int = 1
    scheduler: str = ""
    is_reproducible: bool = False
    image_format: str = "png"
    priority: int = 0
    image: Source | None = None
    mask: Source | None = None
    reference_images: tuple[Source, ...] = ()
    strength: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything that decides what is drawn; the same parameters make the same picture again."""

    model: DiffusionModel
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    num_images: int
    scheduler: str
    is_reproducible: bool
    image_format: str
    priority: int
    strength: float | None

    def fitted_to(self, *, width: int, height: int) -> "Parameters":
        """With the size of a picture, in pixels, scaled down to what the model can draw, its shape kept."""
        scale = min(1, self.model.max_width / width, self.model.max_height / height)
        fitted = [max(MIN_SIZE, int(size * scale) // SIZE_MULTIPLE * SIZE_MULTIPLE) for size in (width, height)]
        return replace(self, width=fitted[0], height=fitted[1])

    @property
    def pixel_steps(self) -> int:
        """What it costs to draw, about: pixels × denoise steps of all images."""
        return self.width * self.height * self.num_inference_steps * self.num_images


def find_model(slug: str | None) -> DiffusionModel:
    """The enabled model of that name, or the default one for None."""
    enabled = DiffusionModel.objects.enabled()
    model = enabled.first() if slug is None else enabled.filter(slug=slug).first()
    if model is None:
        known = ", ".join(enabled.values_list("slug", flat=True)) or "none; an administrator can enable one"
        asked = "No model is enabled" if slug is None else f"There is no model {slug!r}"
        raise InvalidParameters({"model": f"{asked}. Available: {known}."})
    return model


FindModel = Callable[[str | None], DiffusionModel]


def resolve(wishes: Wishes, *, draw_seed: Callable[[], int], find_model: FindModel = find_model) -> Parameters:
    """Fill in the model's defaults and check every limit; raises InvalidParameters naming all that is wrong."""
    model = find_model(wishes.model)
    parameters = Parameters(
        model=model,
        prompt=wishes.prompt.strip(),
        negative_prompt=wishes.negative_prompt.strip(),
        width=model.default_width if wishes.width is None else wishes.width,
        height=model.default_height if wishes.height is None else wishes.height,
        num_inference_steps=(
            model.default_num_inference_steps if wishes.num_inference_steps is None else wishes.num_inference_steps
        ),
        guidance_scale=model.default_guidance_scale if wishes.guidance_scale is None else wishes.guidance_scale,
        seed=-1 if wishes.seed is None else wishes.seed,
        num_images=wishes.num_images,
        scheduler=wishes.scheduler,
        is_reproducible=wishes.is_reproducible,
        image_format=wishes.image_format,
        priority=wishes.priority,
        strength=wishes.strength,
    )
    if wishes.seed is None:
        parameters = replace(parameters, seed=draw_seed())
    faults = dict(find_faults(parameters)) | dict(input_faults(wishes, parameters))
    if faults:
        raise InvalidParameters(faults)
    return parameters


def find_faults(asked: Parameters) -> Iterator[tuple[str, str]]:
    """Each parameter that cannot be used, with a sentence that says what could be."""
    model = asked.model
    yield from text_faults("prompt", asked.prompt)
    yield from text_faults("negative_prompt", asked.negative_prompt)
    if not asked.prompt:
        yield "prompt", "Say what the picture should show."
    for name, limit in (("width", model.max_width), ("height", model.max_height)):
        size = getattr(asked, name)
        if size % SIZE_MULTIPLE or not MIN_SIZE <= size <= limit:
            yield name, f"{size} is not a multiple of {SIZE_MULTIPLE} from {MIN_SIZE} to {limit} pixels."
    ranges = (
        ("num_inference_steps", 1, model.max_num_inference_steps),
        ("guidance_scale", 0, model.max_guidance_scale),
        ("num_images", 1, model.max_num_images),
        ("seed", 0, MAX_SEED - max(0, asked.num_images - 1)),  # image i is drawn from seed + i
    )
    for name, least, most in ranges:
        if not least <= getattr(asked, name) <= most:  # also true of NaN, which compares to nothing
            yield name, f"{getattr(asked, name)} is not between {least} and {most}."
    choices = (
        ("image_format", IMAGE_FORMATS),
        ("priority", PRIORITIES),
        ("scheduler", ("", *model.schedulers)),
    )
    for name, known in choices:
        if getattr(asked, name) not in known:
            listed = ", ".join(str(choice) for choice in known if choice != "")
            yield name, f"{getattr(asked, name)!r} is not one of: {listed}."


def input_faults(wishes: Wishes, asked: Parameters) -> Iterator[tuple[str, str]]:
    """What does not fit together among the pictures to begin with, or what the model is known not to take."""
    sources = {"image": wishes.image, "mask": wishes.mask, "reference_images": wishes.reference_images}
    for name in [name for name, source in sources.items() if source]:
        if getattr(asked.model.abilities, name) is False:
            yield name, f"The model {asked.model.slug} does not take it. Leave it out, or choose another model."
    if wishes.image is None:
        if wishes.mask is not None:
            yield "mask", "It says where to paint in an image. Give image too, or leave out mask."
        if wishes.strength is not None:
            yield "strength", "It says how much of an image changes. Give image too, or leave out strength."
    elif wishes.reference_images:
        yield "reference_images", "Give either image or reference_images."
    if len(wishes.reference_images) > MAX_REFERENCE_IMAGES:
        yield "reference_images", f"{len(wishes.reference_images)} are too many: at most {MAX_REFERENCE_IMAGES}."
    if wishes.strength is not None:
        if not 0 < wishes.strength <= 1:
            yield "strength", f"{wishes.strength} is not above 0 and at most 1."
        elif wishes.strength * asked.num_inference_steps < 1:
            yield "strength", "No step is left at this strength. Ask for more strength or num_inference_steps."


def text_faults(name: str, text: str) -> Iterator[tuple[str, str]]:
    """What keeps a text from being used: its length, or a NUL, which PostgreSQL cannot store."""
    longest = configuration().max_prompt_length
    if len(text) > longest:
        yield name, f"{len(text)} characters are too many: at most {longest}."
    if "\x00" in text:
        yield name, "It must not contain NUL characters."
