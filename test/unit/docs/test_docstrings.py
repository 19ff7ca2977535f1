"""The house rules for docstrings of public functions, whose readers have only the page or `sys.doc`."""

import re

import pytest

from .generator import GENERATE

FUNCTIONS = [
    pytest.param(source, function, id=f"{source.kind}.{source.virtual}.{function.name}")
    for sources in GENERATE.read_sources().values()
    for source in sources
    for function in source.functions
]
# How an argument's text says its type: "(str)", "A list of …", "Seconds (int)", "True (bool) asks again".
TYPE = re.compile(r"\b(str|int|float|bool|list|dict)\b|See |As for ")


def problems(source, function):
    """What is wrong with a docstring, as sentences; empty when all is well."""
    found = []
    try:
        parts = GENERATE.blocks(function.doc)
    except GENERATE.DocError as error:
        return [str(error)]
    head = function.doc.split("\n\n")[0]
    if not head or "\n" in head:
        found.append("the first paragraph is not one line: one sentence, then a blank line")
    elif not head.rstrip().endswith("."):
        found.append("the summary is no sentence: it ends without a full stop")
    texts = [part[1] for part in parts if part[0] == "text"]
    languages = [part[1] for part in parts if part[0] == "code"]
    if source.kind == "states":
        if "yaml" not in languages:
            found.append("no example: .. code-block:: yaml")
    else:
        if "CLI Example:" not in texts or "bash" not in languages:
            found.append("no example: CLI Example: and .. code-block:: bash")
        if not any(re.match(r"Returns?\b", text) or " Returns " in text for text in texts):
            found.append("it does not say what it returns: a paragraph that begins with Returns")
    named = {name: part[2] for part in parts if part[0] == "term" for name in part[1]}
    for name in function.arguments:
        if name not in named:
            found.append(f"the argument {name} is not described")
        elif not TYPE.search(str(named[name])):
            found.append(f"the argument {name} has no type, such as (str)")
    for name in named:
        if name not in function.arguments and f"**{name}" not in function.signature:
            found.append(f"{name} is described and is no argument")
    return found


@pytest.mark.parametrize("source, function", FUNCTIONS)
def test_a_public_function_says_what_its_reader_has_to_know(source, function):
    found = problems(source, function)
    assert not found, "\n".join([f"{source.path}:{function.line} {function.name}:", *found])
