"""The model that the options of a command name, as fields of a request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.run.images import absolute_path
from tasks.errors import RequestError

_WITH_FILES = {"ONNX", "OIP_ENDPOINT"}  # endpoints that read a model or description from a file


@dataclass(frozen=True)
class ModelOptions:
    """The options that name a model.

    Attributes:
        model: Its name, URL, or ONNX file.
        type: Kind of endpoint; derived from the model if None.
        parameters: Parameters of the model, each NAME=VALUE.
    """

    model: str
    type: str | None = None
    parameters: tuple[str, ...] = ()

    @classmethod
    def if_any(
        cls,
        model: str | None,
        type: str | None,  # noqa: A002 - the option's name
        parameters: tuple[str, ...],
    ) -> ModelOptions | None:
        """The options, or None if no model is named.

        Raises:
            RequestError: --type or --parameter is given without a model.
        """
        if model is not None:
            return cls(model, type, parameters)
        if type is not None or parameters:
            option = "--type" if type is not None else "--parameter"
            raise RequestError(f"{option}: is of a model; give --model too, or leave it out.")
        return None

    def message(self) -> dict[str, Any]:
        """The fields of the request message.

        Raises:
            RequestError: --parameter is not NAME=VALUE.
        """
        return {
            "imageProcessor": {"name": self._location(self.model), "type": self._type},
            "imageProcessorParameters": self._parameters(),
        }

    def folders(self) -> list[Path]:
        """The folders of the model's files; that of one that does not exist too.

        So the error of a missing file says that it is missing, not that its folder is not allowed.
        """
        named = [self._location(self.model), self._parameters().get("description", "")]
        local = [Path(name) for name in named if name and "://" not in name]
        files = [file for file in local if self._type in _WITH_FILES]
        # of a link both folders: its target is read, and a model's description is found beside it
        folders = [file.absolute().parent for file in files]
        return folders + [file.resolve().parent for file in files if file.exists()]

    def _parameters(self) -> dict[str, str]:
        pairs = dict(_name_and_value(option) for option in self.parameters)
        if "description" in pairs:
            pairs["description"] = self._location(pairs["description"])
        return pairs

    @property
    def _type(self) -> str:
        return self.type or _kind_of(self.model)

    def _location(self, name: str) -> str:
        """A model file as an absolute path; any other name unchanged."""
        is_file = self._type in _WITH_FILES and "://" not in name
        return str(absolute_path(name)) if is_file else name


def _kind_of(model: str) -> str:
    """The kind of endpoint that a model's name suggests."""
    from tasks.request.model_files import is_web_file

    if is_web_file(model):
        return "ONNX"  # is refused as such, before its server is sent tiles
    if model.startswith(("http://", "https://")):
        return "OIP_ENDPOINT" if "/v2/models/" in model else "HTTP_ENDPOINT"
    return "ONNX" if model.lower().endswith(".onnx") else "BUILTIN"


def _name_and_value(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not name or not equals:
        raise RequestError(f"--parameter: {option!r} is not NAME=VALUE.")
    return name, value
