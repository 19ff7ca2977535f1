"""The event bus of the lab's master, heard from outside of its namespace: its sockets are files."""

import contextlib
import secrets
import threading

from .base import wait


class Bus:
    """
    Hands each event, {"tag", "data"}, to `hear` from :py:meth:`start` to :py:meth:`stop`, in a thread of its own.

    A master that ends and begins again is heard again; what it said before that is not known.
    """

    def __init__(self, lab, hear):
        self.lab, self.hear = lab, hear
        self.mark = f"lab/{secrets.token_hex(8)}"
        self._listening, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self._thread.start()
        wait("the master's bus is heard", self._heard, 30)

    def stop(self):
        """End it; a second call does nothing."""
        self._over.set()
        if self._thread.is_alive():
            # The thread waits for an event: this is one. A dead master has none, and there the thread looks by itself.
            with contextlib.suppress(Exception):
                self._tell()
            self._thread.join(10)

    def _bus(self, listen):
        import salt.config
        import salt.utils.event

        opts = salt.config.master_config(str(self.lab.home / "salt/master"))
        return salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=listen)

    def _tell(self):
        with self._bus(False) as bus:
            bus.fire_event({}, self.mark)

    def _heard(self):
        self._tell()
        return self._listening.wait(1)

    def _listen(self):
        while not self._over.is_set():
            with contextlib.suppress(OSError), self._bus(True) as bus:
                # For ever: where a wait is over, Salt 3007 connects anew, and what is said meanwhile is lost.
                while event := bus.get_event(wait=0, full=True):
                    if event["tag"] != self.mark:
                        self.hear(event)
                    self._listening.set()
                    if self._over.is_set():
                        return
            self._over.wait(0.3)
