"""Conditions on the daemon's data: ``monitor.services.'a/svc/b'.avail~(up|n/a)``. Pure."""

import json
import re

CONDITION = re.compile(r"^(!?)((?:'[^']*'|[^=~<>])+?)(?:(>=|<=|=|~|>|<)(.*))?$")


def steps(path):
    return [
        word[1:-1] if word.startswith("'") else word
        for word in re.findall(r"'[^']*'|[^.]+", path.lstrip("."))
    ]


def lookup(data, path):
    """The value at a path -> (value, found)."""
    for step in steps(path):
        if isinstance(data, dict) and step in data:
            data = data[step]
        else:
            return None, False
    return data, True


def satisfied(data, condition):
    """Whether a condition holds; a match by ``~`` is a search, so ``up`` finds ``stdby up`` too."""
    match = CONDITION.match(condition)
    if match is None:
        return False
    negated, path, operator, wanted = match.groups()
    value, found = lookup(data, path)
    if operator is None:
        answer = found and bool(value if not isinstance(value, dict) else True)
    elif not found:
        answer = False
    else:
        answer = _compare(value, operator, wanted)
    return answer != bool(negated)


def _compare(value, operator, wanted):
    text = value if isinstance(value, str) else json.dumps(value)
    if operator == "=":
        return text.lower() == wanted.lower()
    if operator == "~":
        return re.search(wanted, text) is not None
    try:
        left, right = float(text), float(wanted)
    except ValueError:
        return False
    return {">": left > right, "<": left < right, ">=": left >= right, "<=": left <= right}[
        operator
    ]
