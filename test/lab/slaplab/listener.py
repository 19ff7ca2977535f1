"""
Print each event of a master's bus as a pickled (tag, data), until standard input ends. A program of its own, given the master's configuration file.

A thread cannot do it: Salt 3007 waits for an event in a thread of its own, which nothing ends, and which keeps its process from ending.
"""

import os
import pickle
import sys
import threading

import salt.config
import salt.utils.event


def follow():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=follow, daemon=True).start()
opts = salt.config.master_config(sys.argv[1])
while True:
    with salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=True) as bus:
        # For ever: where a wait is over, Salt 3007 connects anew, and what is said meanwhile is lost.
        while event := bus.get_event(wait=0, full=True):
            pickle.dump((event["tag"], event["data"]), sys.stdout.buffer)
            sys.stdout.buffer.flush()
