"""A labelling config -> the controls to learn.

A control is a ``<Choices>`` that sorts whole images: it points at one ``<Image>``, its classes are
written in the config, and a result names them as plain strings. Everything else is left alone and
listed with the reason. Names are read as Label Studio's editor reads them: the case of tag and
attribute names does not matter, ``alias`` is stored in place of ``value``, text inside a
``<Choice>`` replaces its ``value``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from textwrap import shorten
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from backend.errors import LabelConfigError

LONGEST_NAME = 255
"""Characters of a control's or a task field's name that the database keeps."""
HELPERS = frozenset({"filter"})
"""Tags that point at a control and help people to use it; they store nothing."""
MAX_BYTES = 1_000_000
MAX_DEPTH = 100
CONFIGS_KEPT = 16
EXAMPLE = (
    '<View><Image name="image" value="$image"/><Choices name="label" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)
_NEEDED = "Needed is a <Choices> with at least two <Choice> that points at an <Image>, for example"
# What the editor takes for a reference to the task; JavaScript's \w is ASCII.
_VARIABLE = re.compile(r"\$[\w\[\].{}]+", re.ASCII)


@dataclass(frozen=True)
class Control:
    """One ``<Choices>`` to learn: ``from_name`` and ``to_name`` of its results, and its classes.

    ``classes`` are the strings a result's ``value.choices`` holds, in the order of the config.
    ``conditional`` controls are hidden for some answers (``visibleWhen``); an annotation without
    a result of theirs says nothing.
    """

    name: str
    to_name: str
    data_key: str
    classes: tuple[str, ...]
    multiple: bool
    conditional: bool = False

    def image_uri(self, data: Mapping[str, object]) -> str | None:
        """Address of this control's image in a task's ``data``; None if there is no one string.

        A key spelled exactly like ``data_key`` goes before the path ``a.b[0]`` it may also be.
        """
        value = data[self.data_key] if self.data_key in data else _follow(data, self.data_key)
        return value if isinstance(value, str) and value.strip() else None


@dataclass(frozen=True)
class LabelConfig:
    """What can be learned from a labelling config.

    ``digest`` is the SHA-256 of the controls: other layout, comments or colours leave it as it is.
    ``ignored`` has one sentence for each control tag that is left alone.
    """

    controls: tuple[Control, ...]
    digest: str
    ignored: tuple[str, ...]


class _LeftAloneError(Exception):
    """Why a tag is no control."""


def readable_controls(text: str) -> tuple[Control, ...]:
    """The controls to learn; none while the config has none or cannot be read."""
    try:
        return _parsed(text).controls
    except LabelConfigError:
        return ()


@lru_cache(maxsize=CONFIGS_KEPT)
def _parsed(text: str) -> LabelConfig:
    return parse_label_config(text)


def parse_label_config(xml: str) -> LabelConfig:
    """Read the controls from a labelling config of at most :data:`MAX_BYTES` bytes.

    Raises :class:`LabelConfigError` when it is empty, too large, too deep, not well-formed,
    carries a DTD or entities, or when nothing in it can be learned.
    """
    root = _read(xml)
    parents = _parents(root)
    named = {_attributes(e).get("name", ""): e for e in root.iter()}
    controls: dict[str, Control] = {}
    ignored = []
    for element in root.iter():
        attributes = _attributes(element)
        try:
            if _tag(element) == "choices":
                control = _control(element, [*_ancestors(element, parents)], named)
                if control.name in controls:
                    raise _LeftAloneError("another control has the same name")
                controls[control.name] = control
            elif _tag(element) not in HELPERS and {"name", "toname"} <= attributes.keys():
                raise _LeftAloneError("not a Choices control")
        except _LeftAloneError as reason:
            sentence = f'{_local(element)} "{attributes.get("name", "")}": {reason}'
            ignored.append(shorten(sentence, 300, placeholder=" …"))
    if not controls:
        found = f" Left alone: {'; '.join(ignored[:5])}." if ignored else ""
        raise LabelConfigError(
            f"The labelling config has nothing to learn.{found}", mend=f"{_NEEDED}: {EXAMPLE}"
        )
    return LabelConfig(tuple(controls.values()), _digest(controls), tuple(ignored))


def _read(xml: str) -> Element:
    if not xml or not xml.strip():
        raise LabelConfigError("The labelling config is empty.", mend=f"{_NEEDED}: {EXAMPLE}")
    size = len(xml.encode(errors="replace"))
    if size > MAX_BYTES:
        raise LabelConfigError(
            f"The labelling config has {size:,} bytes, at most {MAX_BYTES:,} are read.",
            mend="Shorten it, for example by leaving out choices that nobody uses.",
        )
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except DefusedXmlException:
        raise LabelConfigError(
            "The labelling config carries a DTD or entities, which are never read.",
            mend="Remove the <!DOCTYPE …> from it.",
        ) from None
    except (ParseError, ValueError) as error:
        raise LabelConfigError(
            f"The labelling config is not well-formed XML: {error}.",
            mend="Mend it in Label Studio under Settings, Labeling Interface, Code.",
        ) from None
    return root


def _parents(root: Element) -> dict[Element, Element]:
    parents: dict[Element, Element] = {}
    depth = {root: 1}
    for element in root.iter():
        for child in element:
            parents[child] = element
            depth[child] = depth[element] + 1
    deepest = max(depth.values())
    if deepest > MAX_DEPTH:
        raise LabelConfigError(
            f"The labelling config nests {deepest:,} tags, at most {MAX_DEPTH} are read.",
            mend="Remove the superfluous <View>s.",
        )
    return parents


def _control(element: Element, ancestors: list[Element], named: Mapping[str, Element]) -> Control:
    attributes = _attributes(element)
    name, to_name = attributes.get("name", ""), attributes.get("toname", "")
    if not name:
        raise _LeftAloneError("it has no name")
    if len(name) > LONGEST_NAME:
        raise _LeftAloneError(f"its name has more than {LONGEST_NAME} characters")
    if any(_tag(ancestor) == "repeater" for ancestor in ancestors):
        raise _LeftAloneError("it is inside a Repeater")
    multiple = _kind(attributes)
    image = _target(to_name, named)
    classes = _classes(element)
    if len(classes) < (1 if multiple else 2):
        needed = "one choice" if multiple else "two choices"
        raise _LeftAloneError(f"it needs at least {needed}, it has {len(classes)}")
    conditional = any("visiblewhen" in _attributes(e) for e in (element, *ancestors))
    return Control(name, to_name, _data_key(to_name, image), classes, multiple, conditional)


def _kind(attributes: Mapping[str, str]) -> bool:
    """Whether several choices may be ticked; refuses what does not sort whole images."""
    if attributes.get("perregion") == "true":
        raise _LeftAloneError("it labels regions, not the image (perRegion)")
    if attributes.get("peritem") == "true":
        raise _LeftAloneError("it labels pages, not the image (perItem)")
    if attributes.get("allownested") == "true":
        raise _LeftAloneError("it stores paths through a tree of choices (allowNested)")
    if attributes.get("value"):
        raise _LeftAloneError(f"its choices come from the task data ({attributes['value']})")
    choice = attributes.get("choice", "single")
    if choice not in ("single", "single-radio", "multiple"):
        raise _LeftAloneError(f'choice="{choice}" is none of single, single-radio, multiple')
    return choice == "multiple"


def _target(to_name: str, named: Mapping[str, Element]) -> Element:
    if not to_name:
        raise _LeftAloneError("it has no toName")
    target = named.get(to_name)
    if target is not None and _tag(target) == "image":
        return target
    if target is not None:
        raise _LeftAloneError(f'points at {_local(target)} "{to_name}"')
    if "," in to_name:
        raise _LeftAloneError(f"points at several tags ({to_name})")
    raise _LeftAloneError(f'points at "{to_name}", which does not exist')


def _data_key(name: str, image: Element) -> str:
    if "valuelist" in _attributes(image):
        raise _LeftAloneError(f'Image "{name}" shows several pages (valueList)')
    value = _value(image)
    if not _VARIABLE.fullmatch(value):
        raise _LeftAloneError(f'Image "{name}" has value="{value}", which is not one task field')
    if len(value) > LONGEST_NAME:
        raise _LeftAloneError(f'the task field of Image "{name}" has too long a name')
    return value[1:]


def _classes(element: Element) -> tuple[str, ...]:
    classes = []
    for choice in _choices(element):
        alias = _attributes(choice).get("alias")
        if alias is None and _VARIABLE.search(_value(choice)):
            raise _LeftAloneError(f'its choice "{_value(choice)}" comes from the task data')
        name = _value(choice) if alias is None else alias
        if not name:
            raise _LeftAloneError("one of its choices has no name")
        classes.append(name)
    return tuple(dict.fromkeys(classes))


def _choices(element: Element) -> Iterator[Element]:
    """Choices shown to people: without ``allowNested``, those inside another are not.

    Stops at a ``<Choices>`` inside, so that any config is read in linear time.
    """
    waiting = [element]
    while waiting:
        current = waiting.pop()
        if _tag(current) == "choice":
            yield current
        elif current is element or _tag(current) != "choices":
            waiting.extend(reversed(current))


def _value(element: Element) -> str:
    # The editor takes the inner markup of a tag without child tags for its value.
    text = "" if len(element) else escape((element.text or "").strip())
    return text or _attributes(element).get("value", "")


def _attributes(element: Element) -> dict[str, str]:
    return {key.lower(): value for key, value in element.attrib.items()}


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _tag(element: Element) -> str:
    return _local(element).lower()


def _ancestors(element: Element, parents: Mapping[Element, Element]) -> Iterator[Element]:
    while element in parents:
        element = parents[element]
        yield element


def _follow(data: Mapping[str, object], path: str) -> object:
    value: object = data
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _digest(controls: Mapping[str, Control]) -> str:
    known = [asdict(controls[name]) for name in sorted(controls)]
    text = json.dumps(known, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
