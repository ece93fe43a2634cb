"""What becomes of a scene that was edited when its photo is made into a scene once more."""

from __future__ import annotations

from typing import Literal

OnEdited = Literal["refuse", "apply", "discard"]
"""`refuse` leaves it as it is and says so, `apply` makes it as its edits say, whatever the settings are, `discard` makes it from
the photo alone and forgets the edits."""
