"""Calls of one execution module's functions on the lab's hosts, and which of them were called."""

import json

from . import control


def words(kwargs):
    """Arguments by name, as Salt's command line reads them."""
    return [f"{key}={json.dumps(value)}" for key, value in kwargs.items()]


class Functions:
    """The functions of a module, such as ``drbd``; `used` are the names of those that were called."""

    def __init__(self, module):
        self.module, self.used = module, set()

    def call(self, lab, host, function, *args, **kwargs):
        """What a function answers, whatever it is."""
        self.used.add(function)
        given = [arg if isinstance(arg, str) else json.dumps(arg) for arg in args]
        name = f"{self.module}.{function}"
        return control.salt_json(lab, "salt", host, name, *given, *words(kwargs))[host]

    def done(self, lab, host, function, *args, **kwargs):
        """The answer of a function that must not fail."""
        said = self.call(lab, host, function, *args, **kwargs)
        assert not (isinstance(said, str) and said.startswith("ERROR")), said
        return said

    def refused(self, lab, host, function, *args, **kwargs):
        """Why it did not."""
        said = self.call(lab, host, function, *args, **kwargs)
        assert isinstance(said, str) and said.startswith("ERROR"), said
        return said

    def listed(self, lab, kind="functions"):
        """Every name of the module on the first host; `kind` is functions or state_functions."""
        said = control.salt_json(lab, "salt", "demo1", f"sys.list_{kind}", self.module)["demo1"]
        return {name.removeprefix(f"{self.module}.") for name in said}
