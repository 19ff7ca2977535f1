"""
A program of Salt whose minions are an estate on disk: as_salt.py ESTATE salt-run …. It and every process that it forks ask those.

All else is real: the program, its jobs in processes of their own, the master's bus and job cache, locks.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import salt.client  # noqa: E402
import salt.scripts  # noqa: E402

from functional.slapos_rollout.estate import Estate  # noqa: E402

if __name__ == "__main__":
    folder, program = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    salt.client.get_local_client = lambda *_, **__: Estate(folder)
    getattr(salt.scripts, program.replace("-", "_"))()
