"""The run-time type checker of the tests: shapes in annotations are checked, and an int is a float (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
