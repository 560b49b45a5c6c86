"""``file:PATH:NAME``: a network from the user's own Python file."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import nn

from robustprune.errors import ModelError
from robustprune.models.adapter import AdaptedNetwork
from robustprune.models.architecture import Architecture
from robustprune.registry import suggest


def split_name(name: str) -> tuple[Path, str]:
    """Split ``file:PATH:NAME`` into the path and the name within the file."""
    path, _, attribute = name.removeprefix("file:").rpartition(":")
    if not path or not attribute:
        raise ModelError(f"{name!r} does not name a network: write file:PATH:NAME, e.g. file:my_net.py:Net")
    return Path(path), attribute


def own_code(name: str) -> Path | None:
    """Return the file of a ``file:`` network, None for any other: what a caller's own tickets are opened with."""
    return split_name(name)[0] if name.startswith("file:") else None


def build_from_file(architecture: Architecture) -> AdaptedNetwork:
    """Build ``file:PATH:NAME``: a class, a function, or a ready nn.Module in a Python file.

    A class or function is called with those of ``num_classes``, ``channels`` (or ``in_channels``),
    ``image_size`` (height, width), ``mean``, ``std`` and the architecture's options that its signature names.
    The result takes images in [0, 1]: no normalization is added, since the file may have its own.
    """
    path, attribute = split_name(architecture.name)
    network = load_attribute(path, attribute)
    if not isinstance(network, nn.Module) and _defines_networks(network, path):
        try:
            network = network(**_arguments(network, architecture))
        except (Exception, SystemExit) as error:
            raise ModelError(f"{attribute} of {path} raised {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"{attribute} of {path} gives a {type(network).__name__}, not a torch nn.Module; name a module, a "
            "class of modules, or a function that the file itself defines and that returns one"
        )
    return AdaptedNetwork(network, None)


def _defines_networks(source: Any, path: Path) -> bool:
    """Return whether to call what was named: a class of modules, or a function of the file's own.

    What the file merely imports is not called: a ticket chooses the name and the options, and must not get
    to choose ``system`` because the user's file happens to import it.
    """
    if isinstance(source, type):
        return issubclass(source, nn.Module)
    return inspect.isfunction(source) and source.__module__ == _module_name(path)


def _module_name(path: Path) -> str:
    return f"robustprune_user_{path.stem}"


def load_attribute(path: Path, attribute: str) -> Any:
    """Return what a Python file defines under a name.

    Raises:
        ModelError: There is no such file or name, or the file cannot be imported.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}; name the Python file that defines {attribute}")
    specification = importlib.util.spec_from_file_location(_module_name(path), path)
    if specification is None or specification.loader is None:
        raise ModelError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    # As for a script: dataclasses look their module up, and files beside it can be imported.
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that reads its own command line ends the process
        del sys.modules[module.__name__]
        raise ModelError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ModelError(f"{path} defines no {attribute!r}.{suggest(attribute, public)}")
    return getattr(module, attribute)


def _arguments(source: Any, architecture: Architecture) -> dict[str, Any]:
    offered = {
        "num_classes": architecture.num_classes,
        "channels": architecture.channels,
        "in_channels": architecture.channels,
        "image_size": architecture.image_size,
        "mean": architecture.mean,
        "std": architecture.std,
    }
    parameters = inspect.signature(source).parameters
    unknown = [name for name in architecture.options if name not in parameters]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if unknown and not takes_any:
        raise ModelError(f"{source.__name__} takes no {unknown[0]!r}.{suggest(unknown[0], parameters)}")
    options = {name: _as_wanted(parameters.get(name), value) for name, value in architecture.options.items()}
    return {name: value for name, value in offered.items() if name in parameters} | options


_PLAIN = {kind.__name__: kind for kind in (bool, int, float, str)}


def _as_wanted(parameter: inspect.Parameter | None, value: Any) -> Any:
    """Return an option as the type its parameter is annotated with, if that is a plain one: a name "50" is text."""
    annotation = parameter.annotation if parameter is not None else None
    kind = _PLAIN.get(annotation if isinstance(annotation, str) else getattr(annotation, "__name__", ""))
    if parameter is None or kind is None:
        return value
    try:
        return TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True)).validate_python(value)
    except ValidationError as error:
        raise ModelError(f"option {parameter.name}={value!r}: {error.errors()[0]['msg'].lower()}") from error
