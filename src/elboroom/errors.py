"""Messages that say what was asked, where, and the cure."""

import difflib
from collections.abc import Collection, Iterable


class InputError(ValueError):
    """The caller's slip: a file, an option or a combination that cannot work. The command line exits with 2.

    The message is one sentence of what is wrong and where, and one of the cure.
    """


class Diverged(ArithmeticError):
    """A training run whose loss or weights stopped being finite numbers, or ran away; a result, not a crash."""

    def __init__(self, step: int, term: str, why: str = "is not finite") -> None:
        self.step, self.term, self.why = step, term, why
        super().__init__(f"diverged at step {step:,}: {term} {why}")


class Stopped(Exception):
    """Training was asked to stop (a signal, the budget) and has saved a checkpoint; the command line exits with 3."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: what is known, and what was probably meant."""
    names = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"known: {', '.join(names)}.{hint}"


def one_of(what: str, name: str, known: Collection[str]) -> str:
    """The name, where it is known; else the `InputError` of `unknown`."""
    if name not in known:
        raise unknown(what, name, known)
    return name


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """``unknown objective 'elbow'; known: elbo, mu. Did you mean 'elbo'?``"""
    return InputError(f"unknown {what} '{name}'; {nearest(name, known)}")
