"""YAML in and out, options merged in, and every mistake told with its place and its cure."""

import dataclasses
import json
import re
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import pydantic
import yaml

from elboroom.config.base import kind_of, merged
from elboroom.config.run import Run, to_dict
from elboroom.config.study import Metrics, Study
from elboroom.errors import InputError, nearest

FORMAT = 1
Config = TypeVar("Config")


class _Once:
    """Safe YAML that also refuses a key given twice, of which the last would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        twice = {k for k in keys if keys.count(k) > 1}
        if twice:
            mark = f"line {node.start_mark.line + 1}"
            raise yaml.constructor.ConstructorError(None, None, f"{mark}: the key '{min(twice)}' stands twice")
        return super().construct_mapping(node, deep)


class _Clear(_Once, yaml.SafeLoader):
    """Says best what is wrong."""


class _Fast(_Once, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """By libyaml, twenty times as fast."""


def _loaded(text: str) -> Any:
    try:
        return yaml.load(text, _Fast)
    except (yaml.YAMLError, RecursionError):
        return yaml.load(text, _Clear)


def parse_yaml(text: str, source: str) -> Any:
    """The content of YAML text; nothing in it is ever run. Raises InputError that names the source."""
    try:
        content = _loaded(text)
        json.dumps(content, default=str, skipkeys=True)  # ValueError for an alias inside of what it stands for
        return content
    except yaml.constructor.ConstructorError as error:
        if "python/" in str(error):
            raise InputError(
                f"{source}: it asks for code to be run ({error.problem}); write plain values only."
            ) from None
        raise InputError(f"{source}: {error.problem or error}. Mend that line.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise InputError(f"{source}: not YAML{where}: {problem}. Mend it there.") from None
    except (ValueError, RecursionError) as error:  # a date such as 2020-13-45, or mappings without an end
        raise InputError(f"{source}: not a configuration: {error}. Write plain values only.") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, with a relative ``data.path`` made absolute from the file's folder."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Give the path of a YAML configuration.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}). Give the path of a YAML configuration.") from None
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: a configuration is a mapping such as `seed: 0`, this file holds {_noun(content)}.")
    if content.pop("format", FORMAT) != FORMAT:
        raise InputError(f"{path}: it is of another format; this version reads {FORMAT}. Update elboroom.")
    return _absolute_paths(content, path.resolve().parent)


def _noun(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _absolute_paths(value: Any, folder: Path) -> Any:
    """A copy in which every ``data: {path: ...}`` (nested or ``data.path``) is absolute."""
    if isinstance(value, list):
        return [_absolute_paths(v, folder) for v in value]
    if not isinstance(value, dict):
        return value
    result = {k: _absolute_paths(v, folder) for k, v in value.items()}
    if isinstance(result.get("init_from"), str) and not result["init_from"].startswith("{out}"):
        result["init_from"] = _absolute(result["init_from"], folder)
    for holder, key in ((result.get("data"), "path"), (result, "data.path")):
        if isinstance(holder, dict) and key in holder:
            holder[key] = _absolute(holder[key], folder)
    return result


def _absolute(path: Any, folder: Path) -> Any:
    """A relative path, or each of a list of them, made absolute from a folder."""
    if isinstance(path, list):
        return [_absolute(p, folder) for p in path]
    try:
        return str((folder / Path(path).expanduser()).resolve()) if isinstance(path, str) else path
    except RuntimeError:  # ~somebody
        raise InputError(f"{path}: nobody of that name has a home folder here. Write the path from / on.") from None


CHOOSING = re.compile(r"\.kind$|(?<=^data)\.(name|path)$")
"""The end of an option that says what a part is, so that its fields are laid over it."""


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """``a.b`` and 1 become ``{a: {b: 1}}``."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def apply_options(content: dict[str, Any], options: Iterable[str]) -> dict[str, Any]:
    """Lay command-line options ``--objective.beta 4`` or ``--objective.beta=4`` over a configuration's mapping.

    What is chosen by its kind (data: by its name or path) comes before its fields, whichever is typed first; of one
    option the last counts.
    """
    for name, text in sorted(_pairs(options), key=lambda pair: CHOOSING.sub("", pair[0]).count(".")):
        content = merged(content, _absolute_paths(nested(name, parse_yaml(text, f"--{name}")), Path.cwd()))
    return content


def _pairs(options: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The name and the text of each option."""
    words = list(options)
    while words:
        option = words.pop(0)
        if not option.startswith("--"):
            raise InputError(f"unexpected argument '{option}'; options look like --training.epochs 5.")
        name, equals, text = option[2:].partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                raise InputError(f"option --{name} needs a value, such as --{name} 1.")
            text = words.pop(0)
        yield name, text


def run_from(content: dict[str, Any], source: str = "configuration") -> Run:
    """A validated run; the data set of a configuration that names none is `digits`."""
    return validated(Run, content, source)


def load_run(path: Path, options: Iterable[str] = ()) -> Run:
    """Read and validate a run's configuration, with options laid over it."""
    return run_from(apply_options(read_mapping(path), options), str(path))


def load_study(path: Path) -> Study:
    """Read and validate a study."""
    return validated(Study, read_mapping(path), str(path))


def study_from(content: dict[str, Any], source: str) -> Study:
    """A validated study."""
    return validated(Study, content, source)


def metrics_from(text: str) -> tuple[Any, ...]:
    """The metrics that an option names: ``standard``, ``knn, clusters`` or YAML such as ``[{kind: knn, code: z}]``."""
    if not text.strip():
        return ()
    listed = text if text.lstrip().startswith(("[", "{")) else f"[{text}]"
    return validated(Metrics, {"also": parse_yaml(listed, "--metrics")}, "--metrics").also


def to_yaml(config: Run | Study) -> str:
    """The resolved configuration as YAML that reads back to the same."""
    return yaml.safe_dump({"format": FORMAT, **to_dict(config)}, sort_keys=False, allow_unicode=True, width=120)


def validated(cls: type[Config], content: Any, source: str) -> Config:
    """A configuration class from plain values; InputError with a line for each mistake, its place and its cure."""
    try:
        return pydantic.TypeAdapter(cls).validate_python(content)
    except pydantic.ValidationError as error:
        lines = dict.fromkeys(_explain(cls, e) for e in error.errors()[:5])
        raise InputError("\n".join(f"{source}: {line}" for line in lines)) from None


def _explain(cls: type, error: Any) -> str:
    loc = [p for p in error["loc"] if not str(p).startswith("function-")]
    candidates, path = _walk(cls, loc)
    where = ".".join(map(str, path))
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        fields = [f.name for c in candidates for f in dataclasses.fields(c)]
        return f"{where}: unknown key '{loc[-1]}'; {nearest(str(loc[-1]), dict.fromkeys(fields))}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{where}: {message}" if where else message
    return f"{where}: {message}, got {error['input']!r}. Correct the value."


def _walk(cls: type, loc: list[Any]) -> tuple[list[type], list[Any]]:
    """The classes that hold the last key of an error's place, and the place without the tags of unions."""
    candidates, path = [cls], []
    for i, part in enumerate(loc):
        if isinstance(part, int):  # a place in a list, of the same classes
            path.append(part)
            continue
        holders = [c for c in candidates if part in {f.name for f in dataclasses.fields(c)}]
        tagged = [c for c in candidates if "kind" in c.__dataclass_fields__ and _kind(c) == part]
        if tagged and not holders:
            candidates = tagged
            continue
        path.append(part)
        if i == len(loc) - 1:
            break
        candidates = [d for c in holders for d in _classes(c.__dataclass_fields__[part].type)]
    return candidates, path


def _kind(cls: type) -> str:
    return kind_of(cls) if get_args(cls.__dataclass_fields__["kind"].type) else "custom"


def _classes(annotation: Any) -> list[type]:
    """The configuration classes inside a (nested) annotation."""
    if dataclasses.is_dataclass(annotation):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _classes(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType, tuple, list):
        return [c for a in get_args(annotation) for c in _classes(a)]
    return []
