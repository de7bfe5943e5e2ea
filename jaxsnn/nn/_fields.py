"""Fields of a cell: annotated attributes, from which constructor, checks and printing follow."""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, dataclass_transform

import jax
from flax import nnx

from jaxsnn import _checks
from jaxsnn.nn._constants import Kind, Learnable, Learned, between

_BY_NAME = inspect.Parameter.KEYWORD_ONLY
_CHECKS: dict[Any, Callable[[str, Any], Any]] = {
    bool: _checks.boolean,
    int: _checks.integer,
    float: _checks.real,
}


class Field(NamedTuple):
    """An argument of the constructor, which becomes an attribute."""

    parameter: inspect.Parameter
    checks: tuple[Callable[[str, Any], Any], ...]
    optional: bool

    @property
    def is_constant(self) -> bool:
        """Whether it may be an array, or learned."""
        return any(isinstance(check, Kind) for check in self.checks)

    def made(self, value: Any) -> Any:
        """The value of the attribute, checked."""
        if value is None and self.optional:
            return None
        if isinstance(value, Learnable) and not self.is_constant:
            name = self.parameter.name
            raise TypeError(
                f"{name} cannot be learned: its annotation is none of the kinds of constants in "
                f"jaxsnn.nn.constants, as in {name}: Real"
            )
        for check in self.checks:
            value = check(self.parameter.name, value)
        return value


class _Now:
    """A constant as an attribute: at the class its default, at a cell that learns it its value."""

    def __init__(self, name: str, default: Any) -> None:
        self._name, self._default = name, default

    def __get__(self, cell: Any, owner: type) -> Any:
        if cell is None and self._default is not inspect.Parameter.empty:
            return self._default
        if cell is None or self._name not in cell.learned:
            raise AttributeError(f"{owner.__name__} has no attribute {self._name!r}")
        w, bounds = cell.learned[self._name]
        return between(w[...], *bounds)


def parameter_name(name: str) -> str:
    """The name of the parameter of a constant that is learned, SpikingJelly's `w` for `tau`."""
    return "w" if name == "tau" else f"w_{name}"


@dataclass_transform(eq_default=False)
class Fields(nnx.Module):
    """Mixin: the annotated attributes of a class are the arguments of its constructor.

    The rules are those of `dataclasses`: what follows `_: KW_ONLY` is given by name. A field that
    is declared again keeps its place, and is given by name if it was before.
    `Annotated[type, check]` passes the value through `check(name, value)`, at construction and
    whenever the attribute is set.
    """

    _fields: ClassVar[dict[str, Field]] = {}
    _bounds: tuple[tuple[str, tuple[float, float]], ...] = ()  # of the constants that are learned
    _declared: ClassVar[bool] = True  # whether the constructor follows from the fields
    printed: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = _own_fields(cls)
        for name in vars(cls).keys() & cls._fields.keys() - own.keys():
            raise TypeError(f"{cls.__name__}.{name} is a field: declare it with its annotation")
        for name, field in own.items():
            if name in cls._fields:
                parameter = field.parameter.replace(kind=cls._fields[name].parameter.kind)
                own[name] = field._replace(parameter=parameter)
            if field.is_constant:
                setattr(cls, name, _Now(name, field.parameter.default))
        if "printed" not in vars(cls):
            cls.printed = (*(name for name in own if name not in cls.printed), *cls.printed)
        cls._fields = cls._fields | own
        for name in cls._fields.keys() & map(parameter_name, cls._fields):
            raise TypeError(
                f"{cls.__name__}.{name} has the name of the parameter of another constant, if that "
                "is learned (w of tau, w_ and its name of any other); choose another name"
            )
        cls._declared = cls._declared and "__init__" not in vars(cls)
        if cls._declared:
            cls.__init__ = _constructor(cls)  # type: ignore[method-assign]
            cls.__doc__ = _complete(cls.__doc__ or "", cls.__mro__[1].__doc__ or "", cls.printed)

    def __post_init__(self) -> None:
        """Checks of several fields together, after those of each."""

    @property
    def learned(self) -> dict[str, Learned]:
        """The constants that are learned: of each its parameter and its bounds."""
        return {
            name: Learned(getattr(self, parameter_name(name)), bounds)
            for name, bounds in self._bounds
        }

    def __setattr__(self, name: str, value: Any) -> None:
        field = self._fields.get(name)
        if field is None:
            super().__setattr__(name, value)
            return
        value = field.made(value)
        if name in self.learned:
            delattr(self, parameter_name(name))
        bounds = {learned: bounds for learned, bounds in self._bounds if learned != name}
        if isinstance(value, Learned):
            if name in vars(self):
                delattr(self, name)
            bounds[name] = value.bounds
            name, value = parameter_name(name), value.parameter
        super().__setattr__("_bounds", tuple(bounds.items()))
        # It may change from a number to an array and back, which Flax must be told.
        mark = nnx.data if isinstance(value, jax.Array | nnx.Variable) else nnx.static
        super().__setattr__(name, mark(value))


def _constructor(cls: type[Fields]) -> Callable[..., None]:
    """`__init__` of the fields: what is given by name comes last, as it is printed."""
    parameters = [field.parameter for field in cls._fields.values()]
    by_name = [cls._fields[name].parameter for name in cls.printed if name in cls._fields]
    by_name += [parameter for parameter in parameters if parameter not in by_name]
    signature = inspect.Signature(
        [parameter for parameter in parameters if parameter.kind < _BY_NAME]
        + [parameter for parameter in by_name if parameter.kind == _BY_NAME]
    )

    def __init__(self: Fields, *args: Any, **kwargs: Any) -> None:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            known = ", ".join(signature.parameters) or "none"
            raise TypeError(f"{type(self).__name__}: {error}; its arguments are {known}") from None
        given.apply_defaults()
        for name, value in given.arguments.items():
            setattr(self, name, value)
        self.__post_init__()

    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    __init__.__signature__ = inspect.Signature([this, *signature.parameters.values()])  # type: ignore[attr-defined]
    return __init__


def _own_fields(cls: type) -> dict[str, Field]:
    annotations = inspect.get_annotations(cls)
    if any(isinstance(annotation, str) for annotation in annotations.values()):
        try:
            annotations = inspect.get_annotations(cls, eval_str=True)
        except NameError as error:
            raise TypeError(
                f"an annotation of {cls.__name__} cannot be read: {error}. Import the name in the "
                "module, or leave out from __future__ import annotations"
            ) from None
    fields: dict[str, Field] = {}
    place: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for name, annotation in annotations.items():
        if annotation is dataclasses.KW_ONLY:
            place = _BY_NAME
        elif typing.ClassVar not in (annotation, typing.get_origin(annotation)):
            default = vars(cls).get(name, inspect.Parameter.empty)
            checks, optional = _checks_of(annotation)
            kind = next((check for check in checks if isinstance(check, Kind)), None)
            if kind is not None and optional:
                kind = dataclasses.replace(kind, name=f"{kind.name} | None")
            kind = kind or getattr(annotation, "__origin__", annotation)
            parameter = inspect.Parameter(name, place, default=default, annotation=kind)
            fields[name] = Field(parameter, checks, optional)
    return fields


def _checks_of(annotation: Any) -> tuple[tuple[Callable[[str, Any], Any], ...], bool]:
    """The checks of an annotation, and whether None is allowed."""
    kinds = [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
    checks = getattr(kinds[0], "__metadata__", ()) if len(kinds) == 1 else ()
    if len(kinds) == 1 and kinds[0] in (bool, int, float):
        checks = (_CHECKS[kinds[0]],)
    return checks, types.NoneType in typing.get_args(annotation)


_ORDER = ("", "Args", "Constants", "Carry", "Raises", "Source", "Examples")
_HEADING = re.compile(rf"^(?=(?:{'|'.join(_ORDER[1:])}):)", re.MULTILINE)


def _complete(doc: str, inherited: str, names: tuple[str, ...]) -> str:
    """A docstring with the arguments and sections that it does not repeat from its base class."""
    own, base = _sections(doc), _sections(inherited)
    base.pop("Examples", None)
    arguments = _arguments(base.get("Args", "")) | _arguments(own.get("Args", ""))
    sections = base | own
    described = [arguments[name] for name in names if name in arguments]
    sections["Args"] = "\n".join(["Args:", *described]) if described else ""
    return "\n\n".join(sections[name] for name in _ORDER if sections.get(name))


def _sections(doc: str) -> dict[str, str]:
    """The text of each section, that before the first one under no name."""
    parts = [part.rstrip() for part in _HEADING.split(inspect.cleandoc(doc))]
    return {(part.partition(":")[0] if k else ""): part for k, part in enumerate(parts)}


def _arguments(section: str) -> dict[str, str]:
    """The lines of a section `Args`, by argument."""
    parts = re.split(r"^    (?=\w+:)", section, flags=re.MULTILINE)[1:]
    return {part.partition(":")[0]: f"    {part.rstrip()}" for part in parts}
