"""The ways an action can end."""


class Failed(Exception):
    """The action failed; the text, when there is one, is for the user."""


class NoMatch(Exception):
    """The selector matches no object."""


class Skipped(Exception):
    """Nothing to do, which is a success."""
