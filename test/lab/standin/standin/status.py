"""The algebra of instance and resource states. Pure."""

CODES = {
    "up": 0,
    "down": 1,
    "warn": 2,
    "n/a": 3,
    "undef": 5,
    "stdby up": 6,
    "stdby down": 7,
}
# What an aggregate remembers: some member is up beside the standby ones, or down.
WITH_UP = "stdby up with up"
WITH_DOWN = "stdby up with down"


def merge(left, right):
    """The state of two members together."""
    if left == right or right in ("undef", "n/a"):
        return left if left != "undef" else right
    if left in ("undef", "n/a"):
        return right
    pair = {left, right}
    if "warn" in pair:
        return "warn"
    if pair == {"up", "stdby up"} or pair == {"up", WITH_UP} or pair == {"stdby up", WITH_UP}:
        return WITH_UP
    if pair in ({"down", "stdby up"}, {"down", WITH_DOWN}, {"stdby up", WITH_DOWN}):
        return WITH_DOWN
    if pair == {"down", "stdby down"}:
        return "stdby down"
    return "warn"


def settle(state):
    """The state to show for an aggregate."""
    return {WITH_UP: "up", WITH_DOWN: "stdby up"}.get(state, state)


def aggregate(states, start="n/a"):
    total = start
    for state in states:
        total = merge(total, state)
    return total


def standby(state):
    """The state of a resource that is kept up on the standby too."""
    return {"up": "stdby up", "down": "stdby down"}.get(state, state)
