"""`python -m scenegen.weights`: records the digests of the weights that lie in the package's folder."""

from __future__ import annotations

import logging
from pathlib import Path

from scenegen.weights.record import write_record

logger = logging.getLogger(__name__)


def main() -> None:
    """Writes the record."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info("wrote %s", write_record(Path(__file__).parent))


if __name__ == "__main__":
    main()
