"""What is registered of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelFile:
    """One file of a model."""

    name: str
    """Path below the model's folder, with forward slashes."""
    url: str | None = None
    """Where it is published; None means in the model's repository, at its revision."""
    bytes: int | None = None
    sha256: str | None = None
    """None if it is not published: the digest that the first fetch finds is then required."""

    def __post_init__(self) -> None:
        if not self.name or any(part in ("", ".", "..") for part in self.name.split("/")) or "\\" in self.name:
            raise ValueError(
                f"`name` is {self.name!r}; it must be a path below the model's folder, such as `a/b.json`."
            )


@dataclass(frozen=True)
class Model:
    """A set of weight files that belong together."""

    name: str
    kind: str
    """`segment`, `depth`, `complete`, `generate` or `match`."""
    repo: str | None
    """Repository on the Hugging Face hub."""
    revision: str | None
    """Commit of `repo`, 40 hex digits; a branch, where none is known to hold the files."""
    files: tuple[ModelFile, ...]
    licence: str
    """`not stated` where the publisher's own words, where these can be read, say nothing."""
    note: str
    """What users should know."""
    about_gb: float = 0.0
    """Size of all files together in 10^9 bytes, if that of some is not registered."""
    gated: bool = False
    """Whether its publisher gives it to accounts only that were granted access."""
    licence_from: str = ""
    """Where the words were read by which `licence` is that."""

    @property
    def gigabytes(self) -> float:
        """Size of all files together, 10^9 bytes.

        Examples:
            >>> files = (ModelFile("a.json", None, 2_000_000), ModelFile("b.json", None, 1_000_000))
            >>> Model("a", "depth", None, None, files, "MIT", "").gigabytes
            0.003
        """
        return self.about_gb or sum(file.bytes or 0 for file in self.files) / 1e9
