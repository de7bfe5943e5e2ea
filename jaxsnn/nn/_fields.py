"""Fields of a cell: a dataclass whose attributes are checked whenever they are set."""

import dataclasses
import functools
import inspect
import operator
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, dataclass_transform

import jax
from flax import nnx

from jaxsnn import _checks
from jaxsnn.nn._constants import Kind, Learnable, Learned, between

Check = Callable[[str, Any], Any]
_CHECKS: dict[Any, Check] = {
    bool: _checks.boolean,
    int: _checks.integer,
    float: _checks.real,
}
Size = Annotated[int, _checks.size]
Part = Annotated[Any, _checks.function]  # a cell, a module, a layer or a function
_UNIONS = (typing.Union, types.UnionType)
_BY_NAME = inspect.Parameter.KEYWORD_ONLY


class _Now:
    """A constant as an attribute: at the class its default, at a cell that learns it its value."""

    def __init__(self, name: str, default: Any) -> None:
        self._name, self._default = name, default

    def __get__(self, cell: Any, owner: type) -> Any:
        if cell is None and self._default is not dataclasses.MISSING:
            return self._default
        if cell is None or self._name not in cell.learned:
            raise AttributeError(f"{owner.__name__} has no attribute {self._name!r}")
        w, bounds = cell.learned[self._name]
        return between(w[...], *bounds)


def parameter_name(name: str) -> str:
    """The name of the parameter of a constant that is learned, SpikingJelly's `w` for `tau`."""
    return "w" if name == "tau" else f"w_{name}"


@dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field,))
class Fields(nnx.Module):
    """Mixin: each derived class is a dataclass.

    `Annotated[type, check]` passes the value through `check(name, value)`, at construction and
    whenever the attribute is set. `check_fields`, for several attributes together, is called then
    too; a value that it refuses is not set. An `InitVar` is an argument that `__post_init__` gets,
    and no attribute. A field that is declared again and was given by name stays so.

    The docstring is completed: by arguments that it does not describe, from those of `step`, if the
    class has one, and of the base classes; by sections that only the base class has; by the name of
    the function with the equation.
    """

    _fields: ClassVar[dict[str, Check | None]] = {}
    _described: ClassVar[dict[str, str]] = {}  # of each argument the lines of the docstrings
    _bounds: ClassVar[Any] = ()  # of the constants that are learned: pairs of name and bounds
    _declared: ClassVar[bool] = True  # whether the constructor follows from the fields
    printed: ClassVar[tuple[str, ...]] = ()
    shown_signature: ClassVar[inspect.Signature | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        inherited = _inherited(cls, "_fields")
        own = {
            name: inherited[name]  # a plain annotation, such as float, does not drop a check
            if name in inherited
            and (check is None or isinstance(inherited[name], Kind))
            and not isinstance(check, Kind)
            else check
            for name, check in _own_checks(cls).items()
        }
        _refuse_misleading(cls, own, inherited)
        cls._declared = cls._declared and "__init__" not in vars(cls)
        before = _inherited(cls, "__dataclass_fields__")
        for name in own.keys() & inherited.keys() & vars(cls).keys():
            if not isinstance(default := vars(cls)[name], dataclasses.Field):
                by_name = before[name].kw_only
                setattr(cls, name, dataclasses.field(default=default, kw_only=by_name))
        step, own_doc = vars(cls).get("step"), cls.__doc__ or ""
        dataclasses.dataclass(cls, init=cls._declared, repr=False, eq=False)
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # by now
        cls._fields = {name: (inherited | own)[name] for name in fields}
        for name, check in own.items():
            if isinstance(check, Kind):
                setattr(cls, name, _Now(name, fields[name].default))
        if "printed" not in vars(cls):
            cls.printed = (*(name for name in own if name not in cls.printed), *cls.printed)
        described = _inherited(cls, "_described") | _arguments(step.__doc__ if step else "")
        cls._described = described | _arguments(own_doc)
        cls.shown_signature = _signature(cls) if cls._declared else None
        if cls.shown_signature is not None:
            arguments = cls.shown_signature.parameters
            for name in arguments.keys() & vars(cls).keys() - fields.keys():
                delattr(cls, name)  # the default of an `InitVar`
            texts = [cls._described[name] for name in arguments if name in cls._described]
            cls.__doc__ = _complete(own_doc, cls.__mro__[1].__doc__ or "", texts, step)

    def check_fields(self) -> None:
        """Checks of several fields together, after those of each."""

    @property
    def learned(self) -> dict[str, Learned]:
        """The constants that are learned: of each its parameter and its bounds."""
        return {
            name: Learned(getattr(self, parameter_name(name)), bounds)
            for name, bounds in self._bounds
        }

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._fields:
            super().__setattr__(name, value)
            return
        before = dict(vars(self))
        self._set(name, value)
        learned = dict(self._bounds)
        made = all(field in vars(self) or field in learned for field in self._fields)
        if not made or "_checking" in before:  # not in the middle of the constructor or of a check
            return
        try:
            vars(self)["_checking"] = True
            self.check_fields()
        except (TypeError, ValueError):
            vars(self).clear()
            vars(self).update(before)
            raise
        finally:
            vars(self).pop("_checking", None)

    def _set(self, name: str, value: Any) -> None:
        check = self._fields[name]
        if isinstance(value, Learnable) and not isinstance(check, Kind):
            raise TypeError(
                f"{name} cannot be learned: its annotation is none of the kinds of constants in "
                f"jaxsnn.nn.constants, as in {name}: Real"
            )
        if check is not None:
            value = check(name, value)
        if name in self.learned:
            delattr(self, parameter_name(name))
        bounds = {learned: bounds for learned, bounds in self._bounds if learned != name}
        if isinstance(value, Learned):
            if name in vars(self):
                delattr(self, name)
            bounds[name] = value.bounds
            name, value = parameter_name(name), value.parameter
        super().__setattr__("_bounds", tuple(bounds.items()))
        # A number may become an array, a function a module, and back: Flax needs a mark.
        if isinstance(value, jax.Array | nnx.Variable | nnx.Module):
            value = nnx.data(value)
        elif not any(map(_is_array, jax.tree.leaves(value))):
            value = nnx.static(value)
        super().__setattr__(name, value)


def _inherited(cls: type, name: str) -> dict[str, Any]:
    """The entries of the dictionary `name` of all base classes."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[1:]):
        found |= vars(base).get(name, {})
    return found


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array)


def _own_checks(cls: type) -> dict[str, Check | None]:
    """The check of each field that the body of a class declares."""
    annotations = inspect.get_annotations(cls)
    if any(isinstance(annotation, str) for annotation in annotations.values()):
        try:
            annotations = inspect.get_annotations(cls, eval_str=True)
        except NameError as error:
            raise TypeError(
                f"an annotation of {cls.__name__} cannot be read: {error}. Import the name in the "
                "module, or leave out from __future__ import annotations"
            ) from None
    return {
        name: _check_of(annotation)
        for name, annotation in annotations.items()
        if annotation is not dataclasses.KW_ONLY
        and not isinstance(annotation, dataclasses.InitVar)
        and typing.ClassVar not in (annotation, typing.get_origin(annotation))
    }


def _check_of(annotation: Any) -> Check | None:
    """The check of an annotation; that of `Annotated[...] | None` lets None through."""
    kinds, optional = [annotation], False
    if typing.get_origin(annotation) in _UNIONS:
        kinds = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
        optional = len(kinds) < len(typing.get_args(annotation))
    checks = [_CHECKS.get(kinds[0]), *getattr(kinds[0], "__metadata__", ())]
    check: Any = next((check for check in checks if callable(check)), None)
    if len(kinds) > 1 or check is None:
        return None
    if isinstance(check, Kind):
        return dataclasses.replace(check, optional=optional)
    if not optional:
        return check
    return lambda name, value: None if value is None else check(name, value)


def _refuse_misleading(cls: Any, own: Any, inherited: Any) -> None:
    """Raise where a class would not do what its body says."""
    name = cls.__name__
    for field in vars(cls).keys() & inherited.keys() - own.keys():
        raise TypeError(f"{name}.{field} is a field: declare it with its annotation")
    for field in own.keys() - inherited.keys():
        if any(hasattr(base, field) for base in cls.__bases__):
            raise TypeError(f"{name}.{field} cannot be a field: its base class uses this name")
    for field in (inherited | own).keys() & map(parameter_name, inherited | own):
        raise TypeError(
            f"{name}.{field} has the name of the parameter of another constant, if that is learned "
            "(w of tau, w_ and its name of any other); choose another name"
        )
    if own and not cls._declared and "__init__" not in vars(cls):
        raise TypeError(
            f"{name} declares {', '.join(own)}, which the __init__ of its base class does not "
            "take; derive it from another class, or write an __init__"
        )


def _signature(cls: Any) -> inspect.Signature:
    """The signature of `__init__`, what is given by name in the order that is printed."""
    parameters = []
    for parameter in [*inspect.signature(cls.__init__).parameters.values()][1:]:  # without self
        check = cls._fields.get(parameter.name)
        if isinstance(check, Kind):
            parameter = parameter.replace(annotation=check)
        else:
            parameter = parameter.replace(annotation=_plain(parameter.annotation))
        parameters.append(parameter)
    order = (*cls.printed, *cls._fields, ..., "param_dtype", "rngs")
    by_name = [parameter for parameter in parameters if parameter.kind is _BY_NAME]
    by_name.sort(key=lambda p: order.index(p.name if p.name in order else ...))
    first = [parameter for parameter in parameters if parameter.kind is not _BY_NAME]
    return inspect.Signature([*first, *by_name])


def _plain(annotation: Any) -> Any:
    """An annotation without checks."""
    if isinstance(annotation, dataclasses.InitVar):
        return annotation.type
    if typing.get_origin(annotation) in _UNIONS:
        return functools.reduce(operator.or_, map(_plain, typing.get_args(annotation)))
    return annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation


_SECTION = re.compile(r"^(?=[A-Z]\w*:)", re.MULTILINE)
_LAST = ("Constants", "Carry", "Raises")  # where they stand if they are inherited


def _complete(doc: str, inherited: str, arguments: list[str], step: Any) -> str:
    """A docstring with these arguments, sections that only its base class has, and the equation."""
    own, base = _sections(doc), _sections(inherited)
    if own[""] and getattr(step, "__module__", "").startswith("jaxsnn.functional"):
        summary, gap, rest = own[""].partition("\n\n")
        equation = f"the equation is in `jaxsnn.functional.{step.__name__}`."
        own[""] = f"{summary.removesuffix('.')}; {equation}{gap}{rest}"
    own["Args"] = "\n".join(["Args:", *arguments]) if arguments else ""
    missing = {name: base[name] for name in _LAST if name in base and name not in own}
    names = [name for name in own if name not in ("", "Args", "Examples")]
    order = ["", "Args", *(name for name in _LAST if name in missing), *names, "Examples"]
    return "\n\n".join(text for name in order if (text := (own | missing).get(name)))


def _sections(doc: str) -> dict[str, str]:
    """The text of each section by its heading, that before the first one under no name."""
    parts = [part.rstrip() for part in _SECTION.split(inspect.cleandoc(doc))]
    return {(part.partition(":")[0] if k else ""): part for k, part in enumerate(parts)}


def _arguments(doc: str | None) -> dict[str, str]:
    """The lines of the section `Args` of a docstring, by argument."""
    section = _sections(doc or "").get("Args", "")
    parts = re.split(r"^    (?=\**\w+:)", section, flags=re.MULTILINE)[1:]
    return {part.partition(":")[0]: f"    {part.rstrip()}" for part in parts}
