"""
What a minion asks its master for while it works, from a real one: record.py CONF NAME[:ARGUMENT]…, printed as JSON.

``{"asked": {function: [[command, path or None]]}, "states": {function: [tags of its states]}}``. All is in test mode, so nothing of this machine is changed;
how the states found it is not kept.
"""

import contextlib
import json
import os
import sys

import salt.channel.client
import salt.config
import salt.minion

_SENDERS = ("send", "crypted_transfer_decode_dictentry")


@contextlib.contextmanager
def listened(asked):
    """Append the command and path of each load that goes to the master meanwhile."""
    channel = salt.channel.client.AsyncReqChannel
    real = {name: getattr(channel, name) for name in _SENDERS}

    def wrapped(function):
        def send(self, load, *args, **kwargs):
            # _return and its like are the answer, not the work for it.
            if load["cmd"] not in ("_auth", "_return", "_minion_event"):
                asked.append([load["cmd"], load.get("path")])
            return function(self, load, *args, **kwargs)

        return send

    try:
        for name, function in real.items():
            setattr(channel, name, wrapped(function))
        yield
    finally:
        for name, function in real.items():
            setattr(channel, name, function)


def main(conf, *functions):
    opts = salt.config.minion_config(conf)
    opts["test"] = True
    os.makedirs(opts["cachedir"], exist_ok=True)
    minion = salt.minion.SMinion(opts)
    for kind in ("modules", "states", "utils"):
        minion.functions[f"saltutil.sync_{kind}"](refresh=False)
    minion = salt.minion.SMinion(opts)
    found = {"asked": {}, "states": {}}
    for function in functions:
        name, _, argument = function.partition(":")
        # The first time files are fetched; a minion that has run before asks only whether they are as they were.
        for _ in range(2):
            asked = []
            # Each job is a process of its own, which begins without what another has kept.
            minion.functions.pack["__context__"].clear()
            with listened(asked):
                result = minion.functions[name](*filter(None, [argument]))
        found["asked"][function] = asked
        if name == "state.sls":
            found["states"][function] = list(result)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
