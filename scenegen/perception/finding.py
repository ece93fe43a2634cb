"""Objects by what they are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from scenegen.errors import UsageError
from scenegen.ids import UNKNOWN
from scenegen.perception import Segmentation
from scenegen.perception.nouns import NOUNS, noun_of


def known_nouns(names: Sequence[str]) -> dict[str, str]:
    """The everyday noun that each of `names` means.

    Raises:
        UsageError: naming those that mean none.

    Examples:
        >>> known_nouns(["coffee mug", "chair"])
        {'coffee mug': 'cup', 'chair': 'chair'}
    """
    meant = {name: noun_of(name) for name in names}
    unknown = [name for name, noun in meant.items() if noun is None]
    if unknown:
        raise UsageError(
            f"the embedded segmenter does not know {', '.join(unknown)}. It knows {', '.join(NOUNS)}; SAM 3 knows the rest "
            "(--preset paper)."
        )
    return {name: noun for name, noun in meant.items() if noun is not None}


def only_called(found: Segmentation, names: Sequence[str]) -> Segmentation:
    """The objects of which the likeliest guess is among what `names` mean. The pixels of all others become unknown.

    Raises:
        UsageError: if a name means no everyday noun.
    """
    nouns = known_nouns(names)
    likeliest = [guesses[0][0] if guesses else "" for guesses in found.guesses]
    ids = found.ids.copy()
    for number, noun in enumerate(likeliest, start=1):
        if noun not in nouns.values():
            ids[ids == number] = UNKNOWN
    missing = [name for name, noun in nouns.items() if noun not in likeliest]
    return replace(found, ids=ids, warnings=(*found.warnings, *not_found(missing)))


def not_found(names: Iterable[str]) -> tuple[str, ...]:
    """A warning that names what was looked for in vain, if there is any.

    Examples:
        >>> not_found(["mug", "chair"])
        ('segment: found no mug, chair; try another word, or point at it with --point or --box.',)
    """
    missing = ", ".join(names)
    return (f"segment: found no {missing}; try another word, or point at it with --point or --box.",) if missing else ()
