"""All exercises, in the order of the lessons. `find` takes a slug, a number or a file name."""

from lm_core.judge.catalogue import attention, bugs, layers, probability, text, training
from lm_core.judge.exercise import Exercise

_PARTS = (text, attention, layers, probability, training, bugs)
EXERCISES: tuple[Exercise, ...] = tuple(
    sorted((exercise for part in _PARTS for exercise in part.EXERCISES), key=lambda exercise: exercise.number)
)
BY_SLUG = {exercise.slug: exercise for exercise in EXERCISES}


def find(name: str) -> Exercise:
    """The exercise called so: `attend`, `9`, `ex09`, `ex09_attend.py`. Raises ValueError, naming what is near.

    >>> find("attend").slug, find("softmax").slug == find(str(find("softmax").number)).slug
    ('attend', True)
    """
    wanted = name.removesuffix(".py").removeprefix("ex")
    number, _, slug = wanted.partition("_")
    for exercise in EXERCISES:
        if exercise.slug in (name, slug) or (wanted.isdigit() and int(wanted) == exercise.number):
            return exercise
    near = [slug for slug in BY_SLUG if name[:4] in slug or number in slug]
    raise ValueError(f"no exercise {name!r}; there are {', '.join(near or BY_SLUG)}")
