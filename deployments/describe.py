"""`swath models describe`: writes the description of an ONNX model, as far as its file tells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from deployments.run.images import absolute_path
from tasks.errors import RequestError, SwathError, UnsupportedTaskError

if TYPE_CHECKING:
    from tasks.inference.description.inspection import Draft
    from tasks.inference.description.signature import ModelSignature

_STANDARD_OUTPUT = "-"
_LINE, _MOST_LINES = 100, 40  # characters and lines of what a model declares
_INNERMOST = re.compile(r"[\[{]\n[^\[\]{}]*\n\s*[\]}]")  # a list or object without another in it
_CLASSES = "classification:classes"


def describe(
    model: str, out: str | None, console: Console, *, force: bool, class_names: Path | None = None
) -> int:
    """Describe a model.

    Args:
        model: An ONNX file, a path or s3://bucket/key.
        out: File for the description; `-` for standard output; None for the file beside the model
            where its description is looked for, and for none if the model needs no description.
        console: Says what was found, and what is left to fill in.
        force: Whether to overwrite a file.
        class_names: A text file with the name of each class on a line, in the model's order.

    Raises:
        SwathError: A file cannot be read, or the description exists already or cannot be written.
    """
    from tasks.inference.description.inspection import (
        describe_export,
        draft_description,
        is_export,
    )
    from tasks.inference.onnx.opening import default_description

    names = _lines(class_names) if class_names else []
    signature = _signature(model)
    console.print(_declarations(signature), soft_wrap=True)
    if is_export(signature):
        try:
            document = describe_export(signature)
        except UnsupportedTaskError:
            raise
        except RequestError as error:  # its inputs and outputs still tell something
            console.print(f"{error}", soft_wrap=True)
        else:
            if names:
                raise SwathError(
                    f"--class-names: the metadata of {model} name its classes already; leave it "
                    "out, or write the description with --out FILE and edit the names there."
                )
            return _complete(model, document, out, console, force=force)
    if out is None and "://" in model:
        raise RequestError(f"--out: is needed for {model}; give a file, or - for standard output.")
    draft = draft_description(signature, names)
    return _report(draft, out or default_description(model), console, force=force)


def _lines(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SwathError(
            f"--class-names: {file} cannot be read ({error}); give a text file with the name of "
            "each class on a line."
        ) from error
    names = [line for line in lines if line]
    if not names:
        raise SwathError(f"--class-names: {file} is empty; write the name of each class on a line.")
    return names


def _signature(model: str) -> ModelSignature:
    from tasks.inference.description.load import find_file
    from tasks.inference.onnx.opening import signature
    from tasks.inference.onnx.session import MAX_MODEL_BYTES, open_session
    from tasks.request.model_files import export_remedy, is_web_file

    if is_web_file(model):
        raise RequestError(
            f"{model}: models are not read from the web; download it with curl -fLO, and give its "
            "path."
        )
    if remedy := export_remedy(model):
        raise RequestError(f"{model}: is not an ONNX file, and Swath runs no other; {remedy}.")
    remote = "://" in model
    path = model if remote else str(absolute_path(model))
    roots = [] if remote else [Path(path).resolve().parent]
    file = find_file(path, roots, None, max_bytes=MAX_MODEL_BYTES)
    return signature(model, open_session(file, cpu_only=True))


def _declarations(model: ModelSignature) -> str:
    lines = [
        f"  input {name}: {spec.dtype} {spec.written_shape}" for name, spec in model.inputs.items()
    ]
    lines += [
        f"  output {name}: {spec.dtype} {spec.written_shape}"
        for name, spec in model.outputs.items()
    ]
    lines += [f"  metadata {key}: {text[:_LINE]}" for key, text in model.metadata.items()]
    return "\n".join([model.name, *map(_printable, lines[:_MOST_LINES])])


def _printable(line: str) -> str:
    """One line of text from an untrusted file, without control characters, shortened."""
    shown = "".join(character if character.isprintable() else " " for character in line[:_LINE])
    return shown if len(line) < _LINE else f"{shown}…"


def _complete(
    model: str, document: dict[str, Any], out: str | None, console: Console, *, force: bool
) -> int:
    classes = len(document["mlm:output"][0]["classification:classes"])
    console.print(f"Its metadata describe it whole, with {classes} classes.", soft_wrap=True)
    if out is None:
        console.print(
            f"No description is needed: swath run IMAGE --model {model} --out FOLDER. To change "
            "what the metadata say, write it with --out FILE: a description wins over them.",
            soft_wrap=True,
        )
        return 0
    _write(document, out, force=force)
    if out != _STANDARD_OUTPUT:
        console.print(f"{out} is written.", soft_wrap=True)
    return 0


def _report(draft: Draft, out: str, console: Console, *, force: bool) -> int:
    from tasks.inference.description.placeholders import find_placeholders

    _write(draft.document, out, force=force)
    kind = draft.title or "of no family that Swath recognises"
    console.print(f"By its outputs, this is {kind}.", soft_wrap=True)
    if out != _STANDARD_OUTPUT:
        console.print(f"{out} is written.", soft_wrap=True)
    if not draft.runs:
        console.print(
            "Swath does not run models of this kind: it runs models that find objects, or answer "
            "with pixels or about whole tiles.",
            soft_wrap=True,
        )
    left = list(find_placeholders(draft.document))
    _list(console, "To fill in", _without_repetition(left))
    _list(console, "To check", list(draft.to_check.items()))
    if not left and draft.runs:
        console.print("Nothing is left to fill in.")
    return 0


def _without_repetition(left: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The placeholders, of the names of several classes only the first and their number."""
    classes = [place for place in left if _CLASSES in place[0]]
    others = [place for place in left if place not in classes]
    if len(classes) < 2:
        return [*others, *classes]
    field = classes[0][0].partition(_CLASSES)[0] + _CLASSES
    return [*others, (field, f"names of the {len(classes)} classes, in the order of the model")]


def _list(console: Console, title: str, places: list[tuple[str, str]]) -> None:
    if places:
        console.print(f"{title}:")
        for field, text in places:
            console.print(f"  {field}: {text}", soft_wrap=True)


def _on_one_line(innermost: re.Match[str]) -> str:
    text = innermost[0]
    return text[0] + re.sub(r"\n\s*", " ", text[1:-1]).strip() + text[-1]


def _write(document: dict[str, Any], out: str, *, force: bool) -> None:
    text = _INNERMOST.sub(_on_one_line, json.dumps(document, indent=2, ensure_ascii=False)) + "\n"
    if out == _STANDARD_OUTPUT:
        print(text, end="")
        return
    try:
        with Path(out).open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SwathError(f"{out}: exists; give --force to overwrite it, or --out FILE.") from None
    except OSError as error:
        raise SwathError(
            f"--out: {out} cannot be written ({error.strerror}); give another file."
        ) from error
