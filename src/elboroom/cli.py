"""The command line: one flat dataclass per command. Nothing here imports torch until a command runs."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from elboroom.errors import Diverged, InputError, Stopped, unknown

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 3

File = Annotated[Path, tyro.conf.Positional]
OptionalFile = Annotated[Path | None, tyro.conf.Positional]
RUN_KEYS = ("name", "seed", "data", "model", "objective", "companion", "training", "init_from")


@dataclass(frozen=True)
class Study:
    """Run a study: train what is missing, evaluate, report. Any field of a run is an option, as in `train`."""

    study: Annotated[str, tyro.conf.Positional] = "demo"
    """A YAML file, or the name of a recipe (`elboroom recipes`)."""
    scale: str | None = None
    """How large: one of the study's scales; those of recipes are smoke, cpu and paper."""
    variants: str = ""
    """Only these variants, with commas between: --variants vae,beta-vae."""
    out: Path | None = None
    """Folder of the study; by default runs/<name of the study>."""
    kept: Path | None = None
    """Results of this study (what `elboroom results` wrote): their runs are taken over, not trained anew."""
    budget: str | None = None
    """Stop in time, resumable: 45m, 2h, 90s."""
    data_dir: Path | None = None
    """Where data files lie (else $ELBOROOM_DATA, else the user cache)."""
    dry_run: bool = False
    """Print the runs, which are done, and what the rest would take; some steps are timed, and nothing is written."""

    def __call__(self, options: list[str]) -> int:
        from elboroom.studies import study as studies
        from elboroom.studies.restore import take_over

        use_data(self.data_dir)
        found = studies.scaled(studies.find(self.study), self.scale)
        out = self.out or Path("runs") / "-".join(filter(None, [found.name, self.scale]))
        everything = studies.plan(found, out, options=tuple(options))
        planned = studies.only(everything, self.variants)
        if self.dry_run and self.kept is not None:
            raise InputError("--dry-run writes nothing, and --kept takes runs over. Leave one of them out.")
        if self.dry_run:
            return _dry_run(planned, found.metrics)
        if self.kept is not None:
            take_over(found, out, everything, self.kept, print)
        with stopping(self.budget) as stop, Screen() as screen:
            more = {"stop": stop, "cache": cache_folder(), "report": screen.for_run, "say": screen.say}
            studies.carry_out(found, out, planned, **more)
        _report([out], None)
        return _failures(planned)


def _dry_run(planned: list[Any], metrics: Any) -> int:
    """The runs of a study, what is done of them, and what the rest would take."""
    from elboroom.studies import study as studies
    from elboroom.studies.estimate import estimate, summary, words

    for run in planned:
        studies.look(run)
    costs = estimate(planned, metrics)
    width = max(len(str(run.folder)) for run in planned)
    for run, cost in zip(planned, costs, strict=True):
        longer = f"  ({run.longer})" if run.longer else ""
        print(f"{run.status:9} {run.folder!s:{width}}  {words(cost)}".rstrip() + longer)
    print(summary(costs, metrics))
    return DONE


def _failures(planned: list[Any]) -> int:
    """The exit code of a study: a run that diverged is a result, one that could not be trained is bad input."""
    failed = [run for run in planned if run.status == "failed"]
    for run in failed:
        print(f"elboroom: {run.folder}: {run.error}", file=sys.stderr)
    return BAD_INPUT if failed else DONE


@dataclass(frozen=True)
class Train:
    """Train one model. Any field of the configuration is an option: --objective.beta 4 --training.epochs 5."""

    config: OptionalFile = None
    """YAML configuration; without one, the defaults (digits) and the options."""
    out: Path | None = None
    """Run folder; by default runs/<name>-<hash of the configuration>."""
    budget: str | None = None
    """Stop in time, resumable: 45m, 2h, 90s."""
    data_dir: Path | None = None
    """Where data files lie (else $ELBOROOM_DATA, else the user cache)."""

    def __call__(self, options: list[str]) -> int:
        from elboroom import runs
        from elboroom.config import load_run, run_from
        from elboroom.studies.execute import execute

        use_data(self.data_dir)
        config = load_run(self.config, options) if self.config else run_from(_of_digits(options), "options")
        out = self.out or Path("runs") / f"{config.name}-{config.hash}"
        runs.check_new(out)
        with stopping(self.budget) as stop, Screen() as screen:
            execute(config, out, stop=stop, report=screen.line, say=screen.say)
        print(f"done: {out}. Next: `elboroom evaluate {out}`.")
        return DONE


def _of_digits(options: list[str]) -> dict[str, Any]:
    """Options alone as a configuration: fields of data are those of the default data where none are named."""
    from elboroom.config import Run, apply_options
    from elboroom.config.run import to_dict

    content = apply_options({}, options)
    data = content.get("data")
    if isinstance(data, dict) and not {"name", "path"} & set(data):
        content["data"] = to_dict(Run().data) | data
    return content


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped or killed, as if nothing had happened; --training.epochs 60 lengthens one."""

    run: File
    """Run folder."""
    budget: str | None = None
    """Stop in time, resumable: 45m, 2h, 90s."""
    data_dir: Path | None = None
    """Where data files lie (else $ELBOROOM_DATA, else the user cache)."""
    trust: bool = False
    """Allow a configuration that names your own parts; importing them runs their code."""

    def __call__(self, options: list[str]) -> int:
        from elboroom.config import load_run
        from elboroom.studies.execute import check_resumable, execute, extend

        use_data(self.data_dir)
        check_resumable(self.run, longer=bool(options))
        config = load_run(self.run / "config.yaml")
        _trusted(config, self.run, self.trust)
        if options:
            config = extend(self.run, config, options)
        with stopping(self.budget) as stop, Screen() as screen:
            execute(config, self.run, resume=True, stop=stop, report=screen.line, say=screen.say)
        print(f"done: {self.run}. Next: `elboroom evaluate {self.run}`.")
        return DONE


def _trusted(config: Any, run: Path, trust: bool) -> None:
    if config.foreign and not trust:
        raise InputError(
            f"{run}: its configuration names {', '.join(config.foreign)}; opening it runs that code. "
            "If you trust it, say so (--trust)."
        )


NO_SCORES = "no scores: nothing was asked for that does without the encoder; --metrics marginal does."


@dataclass(frozen=True)
class Evaluate:
    """Score a run: ELBO, rate, distortion, active units, importance-sampled NLL, accuracy of the classifier."""

    run: File
    """Run folder."""
    samples: int = 1000
    """Posterior samples of the NLL; 0 leaves it out."""
    images: int | None = None
    """NLL of so many test images only: the first ones, or of sorted data a fixed sample."""
    metrics: str = ""
    """Further metrics: standard, full, or a list such as 'knn, clusters' or '[{kind: knn, code: z}]'."""
    checkpoint: str = "auto"
    """best, last, step-N, or auto: best where there is one, else last. Only what auto opens gives the run its scores;
    those of another checkpoint lie in its own folder."""
    data: str | None = None
    """Evaluate on other data: a name, a name:split, or a path."""
    budget: str | None = None
    """Stop in time; the same command goes on: 45m, 2h, 90s."""
    device: str = "cpu"
    """Where to compute."""
    data_dir: Path | None = None
    """Where data files lie (else $ELBOROOM_DATA, else the user cache)."""
    trust: bool = False
    """Allow a configuration that names your own parts."""

    def __call__(self) -> int:
        from elboroom.config.files import metrics_from
        from elboroom.evaluation import evaluate
        from elboroom.scores import lines
        from elboroom.training.checkpoint import check_writable

        _at_least(self.samples, 0, "samples")
        _at_least(1 if self.images is None else self.images, 1, "images")
        run = _open(self)
        check_writable(run.folder)
        other, metrics = _other_data(run, self.data), metrics_from(self.metrics)
        more = {"samples": self.samples, "images": self.images, "metrics": metrics, "other": other}
        more |= {"headline": run.is_headline, "cache": cache_folder()}
        more["classifiers"] = classifiers_beside(run.folder) if other is None else None  # a study's are of its own data
        try:
            with stopping(self.budget) as stop, Screen() as screen:
                told = _until(stop, screen.share)
                scores = evaluate(run, progress=told, say=screen.say, **more)
        except Stopped as reason:
            print(
                f"stopped: {reason}. What was estimated so far is kept in {run.evaluation}; the same command goes on."
            )
            return STOPPED
        print("\n".join(lines(scores)) or NO_SCORES)
        if self.samples and other is None:
            _print_worst(run)
        stay = "" if run.is_headline else " The run's own scores, those of `--checkpoint auto`, stay as they are."
        print(f"written to {run.evaluation}.{stay} Next: `elboroom report {run.folder}`.")
        return DONE


def _until(stop: Callable[[], str | None], told: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    """A progress that raises Stopped when a signal or the budget asks for it."""

    def progress(what: str, done: int, total: int) -> None:
        told(what, done, total)
        if reason := stop():
            raise Stopped(reason)

    return progress


def _print_worst(run: Any) -> None:
    """The images that a model of files finds hardest."""
    from elboroom.evaluation.outliers import worst

    found = [str(outlier) for outlier in worst(run) if outlier.name is not None]
    if found:
        print(f"highest nll (nats): {', '.join(found)}")


@dataclass(frozen=True)
class Doctor:
    """Say in words whether a trained run is healthy: collapsed, over-regularized, codes outside the prior, ...; each
    verdict with its figures and what to try."""

    run: File
    """Run folder."""
    checkpoint: str = "auto"
    """best, last, step-N, or auto: best where there is one, else last."""
    out: Path | None = None
    """Write the verdict and all figures as JSON here too (always: evaluation/step-N/doctor.json)."""
    strict: bool = False
    """Exit with 1 where there is an alarm; a verdict is a result otherwise."""
    device: str = "cpu"
    """Where to compute."""
    data_dir: Path | None = None
    """Where data files lie (else $ELBOROOM_DATA, else the user cache)."""
    trust: bool = False
    """Allow a configuration that names your own parts."""

    def __call__(self) -> int:
        from elboroom import runs
        from elboroom.evaluation.checkup import examine, keep
        from elboroom.evaluation.subject import Subject
        from elboroom.output import check_file
        from elboroom.training.checkpoint import check_writable, replace_text, room

        if self.out is not None:
            check_file(self.out)
        use_data(self.data_dir)
        run = runs.load(self.run, checkpoint=self.checkpoint, device=self.device, trust=self.trust)
        check_writable(run.folder)
        found = examine(Subject(run))
        keep(run, found)
        if self.out is not None:
            with room(self.out.parent, "run the doctor again"):
                replace_text(self.out, found.json())
        print(*found.lines(), sep="\n")
        return FAILED if self.strict and found.severity == "alarm" else DONE


@dataclass(frozen=True)
class Report:
    """Write one page about runs or studies: the table, curves, reconstructions, samples, latents."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders or study folders."""
    out: Path | None = None
    """The HTML file; by default report.html in the (first) folder."""

    def __call__(self) -> int:
        if not self.folders:
            raise InputError("no folder given: `elboroom report RUN`.")
        return _report(list(self.folders), self.out)


def _report(folders: list[Path], out: Path | None) -> int:
    from elboroom.report import report

    print(f"page: {report(folders, out)}")
    return DONE


@dataclass(frozen=True)
class Sample:
    """Draw codes z from the prior and write what they decode to (.png, .npz)."""

    run: File
    """Run folder."""
    out: Path = Path("samples.png")
    """Output; the suffix decides the format."""
    n: int = 64
    """How many."""
    sigma: float = 1.0
    """Factor of the drawn codes: under a normal prior, z ~ N(0, sigma² I)."""
    seed: int = 0
    """Seed of z."""
    checkpoint: str = "auto"
    """best, last, step-N or auto."""
    trust: bool = False
    """Allow a configuration that names your own parts."""

    def __call__(self) -> int:
        _at_least(self.n, 1, "n")
        if not 0 <= self.sigma < float("inf"):
            raise InputError(f"--sigma must be a number of 0 or more, got {self.sigma}.")
        run = _open(self)
        return _write_arrays(self.out, images=run.sample(self.n, self.sigma, self.seed))


@dataclass(frozen=True)
class Reconstruct:
    """Reconstruct images of a split, or of other data (.png: originals above reconstructions; .npz)."""

    run: File
    """Run folder."""
    out: Path = Path("reconstructions.png")
    """Output; the suffix decides the format."""
    n: int = 32
    """How many."""
    split: Literal["train", "valid", "test"] = "test"
    """Which split."""
    data: str | None = None
    """Other data: a name, a name:split, or a path."""
    checkpoint: str = "auto"
    """best, last, step-N or auto."""
    data_dir: Path | None = None
    """Where data files lie."""
    trust: bool = False
    """Allow a configuration that names your own parts."""

    def __call__(self) -> int:
        _at_least(self.n, 1, "n")
        run = _open(self)
        images, _, _ = _inputs(run, self.split, self.data, self.n)
        return _write_arrays(self.out, images=images, reconstructions=run.reconstruct(images))


@dataclass(frozen=True)
class Interpolate:
    """Straight lines in the code between pairs of test images (.png, .npz)."""

    run: File
    """Run folder."""
    out: Path = Path("interpolations.png")
    """Output; the suffix decides the format."""
    n: int = 8
    """How many pairs."""
    steps: int = 10
    """Images on each line."""
    checkpoint: str = "auto"
    """best, last, step-N or auto."""
    data_dir: Path | None = None
    """Where data files lie."""
    trust: bool = False
    """Allow a configuration that names your own parts."""

    def __call__(self) -> int:
        _at_least(self.n, 1, "n")
        _at_least(self.steps, 2, "steps")
        run = _open(self)
        images, _, _ = _inputs(run, "test", None, 2 * self.n)
        pairs = len(images) // 2
        lines = run.interpolate(images[:pairs], images[pairs : 2 * pairs], self.steps)
        return _write_arrays(self.out, interpolations=lines)


@dataclass(frozen=True)
class Encode:
    """Write the posterior means of a split, or of other data (.npz, .csv), with labels and row numbers."""

    run: File
    """Run folder."""
    out: Path = Path("codes.npz")
    """Output; the suffix decides the format."""
    split: Literal["train", "valid", "test"] = "test"
    """Which split."""
    data: str | None = None
    """Other data: a name, a name:split, or a path."""
    checkpoint: str = "auto"
    """best, last, step-N or auto."""
    data_dir: Path | None = None
    """Where data files lie."""
    trust: bool = False
    """Allow a configuration that names your own parts."""

    def __call__(self) -> int:
        run = _open(self)
        images, labels, rows = _inputs(run, self.split, self.data, None)
        more = {} if labels is None else {"labels": labels}
        return _write_arrays(self.out, mean=run.encode(images), rows=rows, **more)


@dataclass(frozen=True)
class Data:
    """List the known data sets, check the files that are there, or fetch one."""

    action: Annotated[Literal["list", "check", "fetch"], tyro.conf.Positional] = "list"
    """What to do."""
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Data sets; none: all."""
    data_dir: Path | None = None
    """Where data files lie (else $ELBOROOM_DATA, else the user cache)."""

    def __call__(self) -> int:
        from elboroom import data

        use_data(self.data_dir)
        if self.action == "list":
            print(data.listing())
            return DONE
        if self.action == "check":
            results = data.check(list(self.names) or None)
            for result in results:
                print(f"{ {True: 'ok', False: 'BAD', None: 'absent'}[result.ok]:7} {result.name:16} {result.message}")
            return BAD_INPUT if any(r.ok is False for r in results) else DONE
        if not self.names:
            raise InputError("fetch what? `elboroom data fetch mnist`; `elboroom data list` names them.")
        for name in self.names:
            print(f"{name}: {data.fetch(name)}")
        return DONE


@dataclass(frozen=True)
class Recipes:
    """List the studies that come with elboroom."""

    def __call__(self) -> int:
        from elboroom.studies.study import recipes

        for name, description in recipes().items():
            print(f"{name:14} {description}")
        return DONE


@dataclass(frozen=True)
class Results:
    """Keep what a study obtained: page, ledger, scores per example and small weights, in a folder fit for a
    repository."""

    study: File
    """Folder of a study."""
    out: Path
    """Folder to write."""
    command: str = ""
    """What was typed to obtain the study, for the ledger."""

    def __call__(self) -> int:
        from elboroom.report import report
        from elboroom.studies.results import collect

        ledger = collect(self.study, self.out, report([self.study]), self.command)
        print(f"kept: {len(ledger['runs'])} runs in {self.out}")
        return DONE


@dataclass(frozen=True)
class Compare:
    """Runs and studies side by side: ranked with intervals where protocols agree, else apart, with the reason."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders, study folders, folders that `elboroom results` wrote."""
    scores: str = ""
    """Names of scores, such as elbo,nll; all by default."""
    out: Path | None = None
    """Also write it: .csv, .json, .md or .html."""
    resamples: int = 10_000
    """Resamples of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap."""

    def __call__(self) -> int:
        from elboroom.studies import compared
        from elboroom.studies.compare import compare

        if not self.folders:
            raise InputError("no folder given: `elboroom compare RUN RUN`.")
        _at_least(self.resamples, 100, "resamples")
        _at_least(self.seed, 0, "seed")
        if self.out is not None:
            compared.check(self.out)
        found = compare(self.folders, _words(self.scores), resamples=self.resamples, seed=self.seed)
        print(compared.text(found), end="")
        if self.out is not None:
            compared.write(found, self.out)
            print(f"written: {self.out}")
        return DONE


@dataclass(frozen=True)
class Verify:
    """Check numbers against what they were made from: means, hashes, tables; on request weights and training."""

    folder: File
    """Folder that `elboroom results` wrote, a study, or a run."""
    weights: bool = False
    """Also compute the scores anew from the weights that are kept (needs the data)."""
    training: bool = False
    """Also train one run anew by its configuration, and compare its scores."""
    run: str = ""
    """Which run to train anew, such as vae/seed-0; the first by default."""
    scores: str = ""
    """Which scores to compute anew, such as elbo,rate; all by default."""
    data_dir: Path | None = None
    """Where data files lie (else $ELBOROOM_DATA, else the user cache)."""
    trust: bool = False
    """Allow configurations that name your own parts; importing them runs their code."""

    def __call__(self) -> int:
        from elboroom.report.check import wrong_headline, wrong_numbers
        from elboroom.studies.recompute import from_training, from_weights
        from elboroom.studies.verify import Finding, arithmetic

        use_data(self.data_dir)
        first = arithmetic(self.folder)
        (wrong, count), (above, means, unread) = wrong_numbers(self.folder), wrong_headline(self.folder)
        first.findings += [Finding("report.html", line) for line in wrong + above]
        if count and not wrong + above:
            first.done.append(f"report.html: {count} numbers are those of the runs, {means} at its top their means")
        first.gaps += [f"report.html: {unread}"] if unread else []
        if count:
            first.gaps.append("report.html: its figures, and the tables between the first ones and the details")
        found = [first]
        with Screen() as screen:
            more = {"trust": self.trust, "cache": cache_folder(), "progress": screen.share, "say": screen.say}
            if self.weights:
                found.append(from_weights(self.folder, _words(self.scores), **more))
            if self.training:
                found.append(from_training(self.folder, self.run, _words(self.scores), **more))
        return _verdict(found)


def _verdict(found: list[Any]) -> int:
    """What was verified, in words; 0 where all agrees and all that was asked for was reached."""
    names = ("", "arithmetic", "weights", "training")
    for depth in found:
        lines = depth.done + [f"not checked: {line}" for line in depth.gaps]
        print("\n".join([f"depth {depth.depth}, {names[depth.depth]}:", *(f"  {line}" for line in lines)]))
    findings = [f for depth in found for f in depth.findings]
    for finding in findings:
        print(f"elboroom: {finding}", file=sys.stderr)
    reached = [str(depth.depth) for depth in found if depth.reached]
    unreached = [str(depth.depth) for depth in found if not depth.reached]
    print(f"depths reached: {', '.join(reached)} of 3" + f"; not reached: {', '.join(unreached)}" * bool(unreached))
    print(f"{len(findings)} numbers or files do not agree" if findings else "all that was checked agrees")
    return BAD_INPUT if findings or unreached else DONE


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


COMMANDS = (
    *(Study, Train, Resume, Evaluate, Doctor, Report, Compare, Verify),
    *(Sample, Reconstruct, Interpolate, Encode, Data, Recipes, Results),
)
TAKE_FIELDS = ("study", "train", "resume")


# What commands share -------------------------------------------------------------------------------------------------


def use_data(folder: Path | None) -> None:
    """Let --data-dir stand for the rest of this process."""
    if folder is not None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder. Give the folder that holds <data set>/<file> (--data-dir).")
        os.environ["ELBOROOM_DATA"] = str(folder)


def cache_folder() -> Path:
    """Where what depends on a data set alone is kept between evaluations."""
    import pooch

    return Path(pooch.os_cache("elboroom")) / "evaluation"


def classifiers_beside(run: Path) -> Path | None:
    """Where the study that a run is of keeps its classifiers; None for a run on its own."""
    from elboroom.studies.kept import CLASSIFIERS, study_of

    study = study_of(run)
    return None if study is None else study / CLASSIFIERS


def _at_least(value: int, least: int, name: str) -> None:
    if value < least:
        raise InputError(f"--{name} must be at least {least}, got {value}.")


def _open(command: Any) -> Any:
    from elboroom import output, runs

    if hasattr(command, "out"):
        output.check(command.out)
    use_data(getattr(command, "data_dir", None))
    device = getattr(command, "device", "cpu")
    return runs.load(command.run, checkpoint=command.checkpoint, device=device, trust=command.trust)


def _other_data(run: Any, source: str | None) -> Any:
    """The configuration of other data than the run's own, prepared in the same way: ``mnist``, ``frey-faces:last``.

    A folder of a data set's name is meant by ``./mnist``.
    """
    if source is None:
        return None
    import dataclasses

    from elboroom.data import CATALOG, dataset

    own = run.config.data
    common = {"valid": 0, "limit": None}
    name, _, split = source.partition(":")
    if "/" in source or (name not in CATALOG and Path(source).exists()):
        path = str(Path(source).resolve())
        return dataclasses.replace(own, name=None, path=path, split="official", options={}, **common)
    entry, split = dataset(name), split or "official"
    if split == "official" and split not in entry.splits and len(entry.splits) > 1:
        cures = " or ".join(f"--data {name}:{known}" for known in entry.splits)
        raise InputError(f"{name} has several splits and none is official; results depend on it. Say {cures}.")
    entry.split(name, split)
    options = own.options if name == own.name else {}
    return dataclasses.replace(own, name=name, path=None, split=split, options=options, **common)


def _inputs(run: Any, split: str, source: str | None, n: int | None) -> tuple[Any, Any, Any]:
    """Images (as the model takes them), labels and row numbers of a split."""
    import torch

    from elboroom.data import load

    other = _other_data(run, source)
    splits = (run.data if other is None else load(other)).splits()
    if split not in splits:
        raise InputError(f"the data has no split '{split}'; it has {', '.join(splits)} (--split).")
    examples = splits[split]
    count = min(n or len(examples), len(examples))
    index = torch.arange(count)
    x = torch.cat([examples.fixed(part).x for part in index.split(1000)])
    labels = None if examples.labels is None else examples.labels[:count].numpy()
    return x.numpy(), labels, examples.rows[:count].numpy()


def _write_arrays(out: Path, **arrays: Any) -> int:
    from elboroom.output import write

    write(out, arrays)
    print(f"written: {out}")
    return DONE


def seconds(text: str) -> float:
    """``45m``, ``2h``, ``90s`` or a bare number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise InputError(f"--budget {text}: a duration is a positive number and s, m or h, such as 45m.")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def clock(seconds: float) -> str:
    """``01:05:00``; a day and more in hours, too: ``49:00:10``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}"


class stopping:
    """SIGINT, SIGTERM and the budget ask the training to stop after its step; a second signal ends it at once."""

    def __init__(self, budget: str | None) -> None:
        self.until = None if budget is None else time.monotonic() + seconds(budget)
        self.budget, self.reason = budget, None

    def __enter__(self) -> Callable[[], str | None]:
        self.before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self._stop

    def __exit__(self, *error: object) -> None:
        for which, handler in self.before.items():
            signal.signal(which, handler)

    def _ask(self, number: int, frame: object) -> None:
        self.reason = signal.Signals(number).name
        for which, handler in self.before.items():
            signal.signal(which, handler)

    def _stop(self) -> str | None:
        if self.until is not None and time.monotonic() > self.until:
            return f"the budget of {self.budget} is used up"
        return self.reason


class Screen:
    """Progress for the eyes: a live line on a terminal, a line per epoch elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self._shown, self._what, self._begun, self._before = 0.0, "", 0.0, 0

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            print()

    def say(self, text: str) -> None:
        self._print(f"\r\033[K{text}" if self.live else text)

    def for_run(self, run: Any) -> Callable[[dict[str, Any]], None]:
        return self.line

    def line(self, line: dict[str, Any]) -> None:
        """One log line of training or evaluation."""
        if "images_per_s" not in line:
            self._held_out(line)
            return
        terms = "  ".join(f"{k} {v:.4g}" for k, v in line.items() if k in ("loss", "distortion", "rate"))
        left = clock(line["seconds_left"])
        text = f"step {line['step']:,}/{line['steps']:,}  {terms}  {line['images_per_s']:,.0f} images/s  {left} left"
        self._show(text)

    def _held_out(self, line: dict[str, Any]) -> None:
        wanted = ("loss", "elbo", "bound/grey-bce", "active-units", "accuracy/z", "accuracy/mean")
        terms = "  ".join(f"{k} {v:.4g}" for k, v in line.items() if k in wanted)
        self._show(f"epoch {line['epoch']} {line['split']}:  {terms}")

    def share(self, what: str, done: int, total: int) -> None:
        """So much of a long evaluation, and the time left at its speed so far."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._begun, self._before = what, now, done  # a resumed estimate begins in the middle
        if self.live or now - self._shown > 10 or done == total:
            self._shown = now
            left = clock((now - self._begun) / max(done - self._before, 1) * (total - done))
            self._show(f"{what}: {done:,} of {total:,}" + ("" if done in (0, total) else f", {left} left"))

    def _show(self, text: str) -> None:
        self._print(f"\r\033[K{text}" if self.live else text, end="" if self.live else "\n")

    def _print(self, text: str, end: str = "\n") -> None:
        """A reader that is gone (``| head``) ends no training: from then on nothing is shown."""
        try:
            print(text, end=end, flush=True)
        except BrokenPipeError:
            mute()


def mute() -> None:
    """Let what is still printed go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# The way in ----------------------------------------------------------------------------------------------------------


def split_fields(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Take the options that name fields of a run (--objective.beta 4, --seed 1) out of a command's arguments."""
    own, fields = [], []
    words = list(arguments)
    while words:
        word = words.pop(0)
        name = word[2:].split("=", 1)[0].split(".", 1)[0] if word.startswith("--") else None
        dotted = name is not None and "." in word[2:].split("=", 1)[0]
        if name in RUN_KEYS or dotted:
            fields.append(word)
            if "=" not in word and words and not words[0].startswith("--"):
                fields.append(words.pop(0))
        else:
            own.append(word)
    return own, fields


def run(arguments: list[str]) -> int:
    """Parse and carry out; the exit code."""
    if arguments[:1] == ["--version"]:
        import importlib.metadata

        print(importlib.metadata.version("elboroom"))
        return DONE
    names = {c.__name__.lower(): c for c in COMMANDS}
    if arguments and not arguments[0].startswith("-") and arguments[0] not in names:
        raise unknown("command", arguments[0], names)
    takes_fields = bool(arguments) and arguments[0] in TAKE_FIELDS
    own, fields = split_fields(arguments) if takes_fields else (arguments, [])
    command = tyro.extras.subcommand_cli_from_dict(
        names, prog="elboroom", description="Variational autoencoders whose codes carry information.", args=own
    )
    return command(fields) if takes_fields else command()


def main() -> None:
    """The console script: messages instead of tracebacks, exit codes 0 done, 2 bad input, 3 stopped, 1 else."""
    try:
        code = run(sys.argv[1:])
    except InputError as error:
        print(f"elboroom: {error}", file=sys.stderr)
        code = BAD_INPUT
    except Stopped as reason:
        print(f"stopped: {reason}. A checkpoint is saved; the same study command or `elboroom resume RUN` goes on.")
        code = STOPPED
    except Diverged as error:
        cure = "Try a smaller learning rate (--training.optimizer.lr) or --training.clip_norm 5"
        print(". ".join([f"elboroom: {error}", *getattr(error, "__notes__", ()), cure]) + ".", file=sys.stderr)
        code = FAILED
    except BrokenPipeError:  # nobody reads on: `elboroom recipes | head -1`
        mute()
        code = FAILED
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
