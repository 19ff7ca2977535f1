"""The event bus of the lab's master, heard from outside of its namespace: its sockets are files."""

import contextlib
import pathlib
import pickle
import secrets
import subprocess
import sys
import threading

from .base import wait

PROGRAM = pathlib.Path(__file__).with_name("listener.py")


class Bus:
    """
    Hands each event, {"tag", "data"}, to `hear` from :py:meth:`start` to :py:meth:`stop`, in a thread of its own.

    A master that ends and begins again is heard again; what it said before that is not known.
    """

    def __init__(self, lab, hear):
        self.lab, self.hear = lab, hear
        self.mark = f"lab/{secrets.token_hex(8)}"
        self._process = None
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def _master(self):
        return str(self.lab.home / "salt/master")

    def start(self):
        """Begin to listen; what is said from now on is heard."""
        with open(self.lab.logs / "listener.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), self._master],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._thread.start()
        try:
            wait("the master's bus is heard", self._heard, 30)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """End it, with all heard that was said until now; a second call does nothing."""
        if self._process:
            if self._listening.is_set():
                self._listening.clear()
                # Not of a master that is dead.
                with contextlib.suppress(Exception):
                    self._heard()
            self._process.stdin.close()
            self._process.wait()
            self._thread.join()
            self._process.stdout.close()
            self._process = None

    def _heard(self):
        import salt.config
        import salt.utils.event

        opts = salt.config.master_config(self._master)
        with salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=False) as bus:
            bus.fire_event({}, self.mark)
        return self._listening.wait(1)

    def _listen(self):
        # Its end, or an event that it was ended in.
        with contextlib.suppress(EOFError, pickle.UnpicklingError):
            while True:
                tag, data = pickle.load(self._process.stdout)
                if tag == self.mark:
                    self._listening.set()
                else:
                    self.hear({"tag": tag, "data": data})
