"""The type checker of the tests' hook: shapes and types of every call, an int being good for a float (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
