"""Any text and any value: what slapos_text reads and writes is whole, or refused."""

import configparser

from hypothesis import given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError
from support import load_module

TEXT = load_module("_utils/slapos_text.py", "slapos_text_fuzzed")
SIGNS = st.text(st.sampled_from("ab1[]=:#;% \t\n\r'\"\\{}$é😀\x00"), max_size=60)
# What the schema lets through: no line ends, no blanks around it.
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
SECTIONS = st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=3)


@settings(max_examples=150, deadline=None, database=None)
@given(text=SIGNS)
def test_any_cfg_is_read_or_refused(text):
    try:
        read = TEXT.read_cfg(text, "/etc/opt/slapos/slapos.cfg")
    except CommandExecutionError as error:
        assert str(error).startswith("/etc/opt/slapos/slapos.cfg cannot be read")
        return
    assert all(isinstance(key, str) for section in read.values() for key in section)


@settings(max_examples=150, deadline=None, database=None)
@given(before=SECTIONS, values=SECTIONS, absent=st.lists(NAMES, max_size=1))
def test_what_is_merged_is_what_is_read(before, values, absent):
    absent = [name for name in absent if name not in values]
    text = "".join(
        f"# a comment\n[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for section, keys in before.items()
    )
    merged = TEXT.merge_cfg(text, values, absent)
    wanted = {name: dict(keys) for name, keys in before.items() if name not in absent}
    for section, keys in values.items():
        wanted.setdefault(section, {}).update(keys)
    assert TEXT.read_cfg(merged, "x") == wanted
    assert TEXT.merge_cfg(merged, values, absent) == merged
    # SlapOS reads it with interpolation: what has no percent sign is the same to it.
    if "%" not in merged:
        parser = configparser.ConfigParser()
        parser.read_string(merged)
        assert {name: dict(parser[name]) for name in parser.sections()} == wanted


LINES = st.builds(lambda name, value: f"{name} {value}", NAMES, VALUES)


@settings(max_examples=150, deadline=None, database=None)
@given(text=SIGNS, lines=st.lists(LINES, max_size=3), options=st.lists(LINES, max_size=3))
def test_a_conf_has_every_line_that_is_wanted_and_settles(text, lines, options):
    names = {line.split()[0] for line in lines}
    options = [line for line in options if line.split()[0] not in names]
    once = TEXT.merge_conf(text, lines, options)
    wanted = {line.split()[0]: line for line in lines}
    assert {*wanted.values(), *options} <= set(once.split("\n"))
    assert TEXT.merge_conf(once, lines, options) == once
    without = TEXT.merge_conf(once, lines, []).split("\n")
    assert TEXT.BLOCK_BEGIN not in without and not {*options} & {*without}


@settings(max_examples=100, deadline=None, database=None)
@given(output=st.text(max_size=60), table=st.sampled_from(sorted(TEXT.TABLES)))
def test_any_output_has_a_meaning_or_none(output, table):
    meaning = TEXT.explain(table, output)
    assert meaning is None or output not in meaning or not output.strip()


@settings(max_examples=100, deadline=None, database=None)
@given(name=st.text(max_size=12), version=st.text(max_size=12))
def test_names_and_versions_of_packages_settle(name, version):
    assert TEXT.normal(TEXT.normal(name)) == TEXT.normal(name)
    assert TEXT.release(TEXT.release(version)) == TEXT.release(version)
