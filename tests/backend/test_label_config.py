"""Labelling configs: what is learned from them, what is left alone, what is refused."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import LabelConfigError
from backend.label_config import EXAMPLE, MAX_BYTES, MAX_DEPTH, Control, parse_label_config

CONFIGS = Path(__file__).parents[2] / "label_studio_config"
IMAGE = '<Image name="image" value="$image"/>'
TWO = '<Choice value="cat"/><Choice value="dog"/>'
GOOD = f'<Choices name="good" toName="image">{TWO}</Choices>'


def choices(attributes: str = "", inside: str = TWO) -> str:
    return f'<Choices name="c" toName="image" {attributes}>{inside}</Choices>'


def parse(body: str) -> tuple[Control, ...]:
    return parse_label_config(f"<View>{IMAGE}{body}</View>").controls


def reason(body: str) -> str:
    """The one sentence about what is left alone beside a control that is learned."""
    config = parse_label_config(f"<View>{IMAGE}{GOOD}{body}</View>")
    assert [control.name for control in config.controls] == ["good"]
    (sentence,) = config.ignored
    return sentence


def test_the_configs_to_start_from_are_learned_whole():
    parsed = {path.stem: parse_label_config(path.read_text()) for path in CONFIGS.glob("*.xml")}
    assert all(not config.ignored for config in parsed.values())
    (many,) = parsed.pop("many-classes").controls
    assert (many.name, many.multiple, len(many.classes)) == ("label", False, 55)
    assert many.classes[:2] == ("ant", "apple")
    assert many.classes[-1] == "other"
    assert {name: config.controls for name, config in parsed.items()} == {
        "single-choice": (Control("label", "image", "image", ("cat", "dog", "other"), False),),
        "multiple-choice": (
            Control("tags", "image", "image", ("person", "vehicle", "animal"), True),
        ),
        "two-controls": (
            Control("kind", "image", "image", ("cat", "dog", "other"), False),
            Control("flaws", "image", "image", ("blurred", "too dark", "cut off"), True),
        ),
    }


def test_a_filter_is_no_control_that_is_left_alone():
    body = f'<Filter name="f" toName="good"/>{GOOD}<TextArea name="t" toName="image"/>'
    config = parse_label_config(f"<View>{IMAGE}{body}</View>")
    assert [control.name for control in config.controls] == ["good"]
    assert config.ignored == ('TextArea "t": not a Choices control',)


def test_every_config_to_start_from_says_when_to_use_it():
    for path in CONFIGS.glob("*.xml"):
        note = path.read_text().partition("-->")[0]
        assert note.startswith("<!-- ")
        assert "Use it when " in note


def test_the_example_in_the_message_is_itself_a_config():
    assert parse_label_config(EXAMPLE).controls == (
        Control("label", "image", "image", ("cat", "dog"), False),
    )


@pytest.mark.parametrize(
    ("choice", "multiple"),
    [
        ("", False),
        ('choice="single"', False),
        ('choice="single-radio"', False),
        ('choice="multiple"', True),
    ],
)
def test_single_and_multiple(choice, multiple):
    assert parse(choices(choice))[0].multiple is multiple


# What Label Studio 1.23.2 was seen to store for each of these choices.
@pytest.mark.parametrize(
    ("choice", "stored"),
    [
        ('<Choice value="Cat" alias="cat"/>', "cat"),
        ('<Choice value="A &amp; &lt;b&gt; &quot;q&quot;"/>', 'A & <b> "q"'),
        ('<Choice value="  two  spaces "/>', "  two  spaces "),
        ('<Choice value="x&#10;y"/>', "x\ny"),
        ('<Choice value="v" alias=" al "/>', " al "),
        ('<Choice value="US$"/>', "US$"),
        ('<Choice value="$y" alias="al"/>', "al"),
        ('<Choice value="q" alias="$x"/>', "$x"),
        ('<Choice value="cat">A cat &amp; &lt;x</Choice>', "A cat &amp; &lt;x"),
        ('<Choice value="z">   </Choice>', "z"),
        ('<View><View><Choice value="deep"/></View></View>', "deep"),
        ('<Choice value="A"><Choice value="hidden"/></Choice>', "A"),
        ('<choice Value="low"/>', "low"),
    ],
)
def test_classes_are_what_label_studio_stores(choice, stored):
    (control,) = parse(choices(inside=f'{choice}<Choice value="last"/>'))
    assert control.classes == (stored, "last")


def test_classes_keep_the_order_of_the_config_and_count_once():
    inside = '<Choice value="b"/><View><Choice value="a"/></View><Choice value="b"/>'
    assert parse(choices(inside=inside))[0].classes == ("b", "a")


def test_several_images_and_controls():
    config = parse_label_config(
        '<View><View><Image name="front" value="$front"/></View><Image name="back" value="$b.url"/>'
        f'<Choices name="x" toName="front">{TWO}</Choices>'
        f'<View><Choices name="y" toName="back" choice="multiple">{TWO}</Choices></View></View>'
    )
    assert config.controls == (
        Control("x", "front", "front", ("cat", "dog"), False),
        Control("y", "back", "b.url", ("cat", "dog"), True),
    )


def test_case_of_tags_namespaces_and_declarations_do_not_matter():
    expected = (Control("c", "image", "image", ("cat", "dog"), False),)
    plain = f"{IMAGE}{choices()}"
    assert parse_label_config(f'<View xmlns="http://x">{plain}</View>').controls == expected
    lower = plain.replace("Image name", "image name").replace("Choices", "choices")
    assert parse_label_config(f"<view>{lower}</view>").controls == expected
    declared = f'<?xml version="1.0" encoding="utf-16"?><View>{plain}</View>'
    assert parse_label_config(declared).controls == expected


def test_conditional_controls_are_marked():
    shown = 'visibleWhen="choice-selected" whenTagName="k" whenChoiceValue="yes"'
    assert parse(choices(shown))[0].conditional
    assert parse(f"<View {shown}><View>{choices()}</View></View>")[0].conditional
    assert not parse(choices())[0].conditional


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            f'<RectangleLabels name="box" toName="image">{TWO}</RectangleLabels>',
            'RectangleLabels "box": not a Choices control',
        ),
        (
            f'<Text name="t" value="$t"/><Choices name="topic" toName="t">{TWO}</Choices>',
            'Choices "topic": points at Text "t"',
        ),
        (
            '<Choices name="dyn" toName="image" value="$options"/>',
            'Choices "dyn": its choices come from the task data ($options)',
        ),
        (
            choices(inside='<Choice value="$x"/><Choice value="y"/>'),
            'Choices "c": its choice "$x" comes from the task data',
        ),
        (
            choices(inside='<Choice value="cost $5"/><Choice value="y"/>'),
            'Choices "c": its choice "cost $5" comes from the task data',
        ),
        (
            choices('perRegion="true"'),
            'Choices "c": it labels regions, not the image (perRegion)',
        ),
        (choices('perItem="true"'), 'Choices "c": it labels pages, not the image (perItem)'),
        (
            choices('allowNested="true"'),
            'Choices "c": it stores paths through a tree of choices (allowNested)',
        ),
        (
            choices('choice="Multiple"'),
            'Choices "c": choice="Multiple" is none of single, single-radio, multiple',
        ),
        (
            choices(inside='<Choice value="only"/>'),
            'Choices "c": it needs at least two choices, it has 1',
        ),
        (
            choices('choice="multiple"', inside=""),
            'Choices "c": it needs at least one choice, it has 0',
        ),
        (
            choices(inside='<Choice value="Cat" alias=""/><Choice value="y"/>'),
            'Choices "c": one of its choices has no name',
        ),
        (f'<Choices toName="image">{TWO}</Choices>', 'Choices "": it has no name'),
        (f'<Choices name="c">{TWO}</Choices>', 'Choices "c": it has no toName'),
        (
            f'<Choices name="c" toName="nope">{TWO}</Choices>',
            'Choices "c": points at "nope", which does not exist',
        ),
        (
            f'<Image name="b" value="$b"/><Choices name="c" toName="image,b">{TWO}</Choices>',
            'Choices "c": points at several tags (image,b)',
        ),
        (
            f'<Image name="b" valueList="$b"/><Choices name="c" toName="b">{TWO}</Choices>',
            'Choices "c": Image "b" shows several pages (valueList)',
        ),
        (
            f'<Image name="b" value="http://x/$b"/><Choices name="c" toName="b">{TWO}</Choices>',
            'Choices "c": Image "b" has value="http://x/$b", which is not one task field',
        ),
        (
            f'<Image name="b" value="$my image"/><Choices name="c" toName="b">{TWO}</Choices>',
            'Choices "c": Image "b" has value="$my image", which is not one task field',
        ),
        (
            f'<Repeater on="$images">{choices()}</Repeater>',
            'Choices "c": it is inside a Repeater',
        ),
        (GOOD, 'Choices "good": another control has the same name'),
    ],
)
def test_what_is_left_alone_and_why(body, sentence):
    assert reason(body) == sentence


def test_choices_inside_choices_have_classes_of_their_own():
    inner = f'<Choices name="inner" toName="image">{TWO}</Choices>'
    body = choices(inside=f'<Choice value="a"/><View>{inner}</View><Choice value="b"/>')
    assert [(c.name, c.classes) for c in parse(body)] == [
        ("c", ("a", "b")),
        ("inner", ("cat", "dog")),
    ]


def test_a_long_sentence_is_cut():
    assert len(reason(choices(f'choice="{"x " * 5000}"'))) <= 300


def test_one_class_is_enough_for_a_multiple_control():
    assert parse(choices('choice="multiple"', inside='<Choice value="x"/>'))[0].classes == ("x",)


@pytest.mark.parametrize("xml", ["", "  \n", "<View/>", f"<View>{IMAGE}</View>"])
def test_nothing_to_learn_is_refused_with_an_example(xml):
    with pytest.raises(LabelConfigError) as caught:
        parse_label_config(xml)
    assert EXAMPLE in caught.value.mend
    assert "points at an <Image>" in caught.value.mend


def test_a_refusal_says_what_was_found():
    with pytest.raises(LabelConfigError, match=r'Left alone: Choices "c": .* \(perRegion\)\.'):
        parse(choices('perRegion="true"'))


BOMB = '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "head",
    [
        BOMB,
        '<!DOCTYPE v [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE v SYSTEM "http://127.0.0.1:9/x.dtd">',
        "<!DOCTYPE View>",
    ],
)
def test_dtds_and_entities_are_refused(head):
    with pytest.raises(LabelConfigError, match="DTD"):
        parse_label_config(f"{head}<View>{IMAGE}{choices()}</View>")


@pytest.mark.parametrize("xml", ["<View>", "no xml", "<View>&b;</View>", "\0", "<a>\ud800</a>"])
def test_broken_xml_is_refused(xml):
    with pytest.raises(LabelConfigError, match="well-formed"):
        parse_label_config(xml)


def test_size_and_depth_are_limited():
    body = f"{IMAGE}{choices()}"
    with pytest.raises(LabelConfigError, match="at most 1,000,000"):
        parse_label_config(f"<View>{body}<!--{'é' * (MAX_BYTES // 2)}--></View>")
    deep = MAX_DEPTH - 2
    assert parse_label_config(f"{'<View>' * deep}{body}{'</View>' * deep}").controls
    for deep in (MAX_DEPTH - 1, 70_000):
        with pytest.raises(LabelConfigError, match="nests"):
            parse_label_config(f"{'<View>' * deep}{body}{'</View>' * deep}")


def test_the_digest_stays_under_cosmetic_changes_only():
    def digest(body: str, image: str = IMAGE) -> str:
        return parse_label_config(f"<View>{image}{body}</View>").digest

    plain = digest(choices())
    inline = choices('showInline="true"')
    assert len(plain) == 64
    assert digest(f"<!-- x --><Header value='?'/>\n  {inline}") == plain
    assert digest(choices(inside='<Choice value="cat" hotkey="c"/><Choice value="dog"/>')) == plain
    assert digest(choices('choice="single"')) == plain
    assert digest(choices() + GOOD) == digest(GOOD + choices())
    changed = [
        digest(choices('choice="multiple"')),
        digest(choices(inside=f'{TWO}<Choice value="cow"/>')),
        digest(choices(inside='<Choice value="Cat" alias="kitty"/><Choice value="dog"/>')),
        digest(choices(), image='<Image name="image" value="$photo"/>'),
        digest(GOOD),
    ]
    assert len({plain, *changed}) == len(changed) + 1


def control(data_key: str) -> Control:
    return Control("c", "image", data_key, ("a", "b"), False)


@pytest.mark.parametrize(
    ("key", "data", "uri"),
    [
        ("image", {"image": "/data/upload/1/x.png"}, "/data/upload/1/x.png"),
        ("a.b", {"a": {"b": "u"}}, "u"),
        ("a.b", {"a.b": "exact", "a": {"b": "path"}}, "exact"),
        ("a.b[1]", {"a": {"b": ["u", "v"]}}, "v"),
        ("a[0].url", {"a": [{"url": "u"}]}, "u"),
        ("a[2]", {"a": ["u"]}, None),
        ("a.b", {"a": "text"}, None),
        ("image", {"Image": "u"}, None),
        ("image", {"image": ["u", "v"]}, None),
        ("image", {"image": None}, None),
        ("image", {"image": 7}, None),
        ("image", {"image": " "}, None),
        ("image", {}, None),
    ],
)
def test_image_uri(key, data, uri):
    assert control(key).image_uri(data) == uri


NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="$\ufffe\uffff"), min_size=1
)


@given(st.lists(NAMES, min_size=2, max_size=6, unique=True), st.booleans())
def test_any_class_name_comes_back_as_written(names, multiple):
    inside = "".join(f"<Choice value={quoteattr(name)}/>" for name in names)
    (parsed,) = parse(choices('choice="multiple"' if multiple else "", inside=inside))
    assert parsed.classes == tuple(names)
    assert parsed.multiple is multiple


MARKUP = ["<View>", "</View>", "<Choices", "</Choices>", ">", "/>", "<!--", "-->", '"', "é", "\0"]
PIECES = st.sampled_from(
    [*MARKUP, IMAGE, TWO, ' name="c"', ' toName="image"', "<!DOCTYPE x>", "&e;", "$image"]
)


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_any_text_is_read_or_refused(xml):
    try:
        config = parse_label_config(xml)
    except LabelConfigError:
        return
    assert config.controls


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "0", "a.b"]), inner, max_size=3)
    ),
)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "a.b"]), JSON),
    st.sampled_from(["a", "a.b", "a[0]", "a.b[1]", "[0]", "a[99999999999999999999]", "..", "a[²]"]),
)
def test_image_uri_of_any_data(data, key):
    uri = control(key).image_uri(data)
    assert uri is None or (isinstance(uri, str) and uri.strip())


def test_a_name_that_the_database_cannot_keep_is_left_alone() -> None:
    def named(name: str) -> str:
        return (
            '<View><Image name="i" value="$i"/>'
            f'<Choices name="{name}" toName="i"><Choice value="a"/><Choice value="b"/></Choices>'
            "</View>"
        )

    assert parse_label_config(named("n" * 255)).controls[0].name == "n" * 255
    with pytest.raises(LabelConfigError, match="its name has more than 255"):
        parse_label_config(named("n" * 256))
