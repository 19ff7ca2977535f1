"""What the agent says: on standard error for a person, in the log files for the lab."""

import os
import sys

from . import env

_shown = None


class Log:
    """Lines with the object they are about; the context is printed when it changes."""

    def __init__(self, path=None, rid=None, subset=None, console=True, file=None):
        self.path = path
        self.rid = rid
        self.subset = subset
        self.console = console
        self.file = file

    def child(self, rid=None, subset=None):
        return Log(self.path, rid, subset, self.console, self.file)

    def context(self):
        parts = [f"n:{env.nodename()}"]
        if self.path:
            parts.append(f"o:{self.path}")
        if self.subset:
            parts.append(f"rs:{self.subset}")
        if self.rid:
            parts.append(f"r:{self.rid}")
        parts.append("sc:n")
        return " ".join(parts)

    def info(self, message):
        self._write(" ", message)

    def warning(self, message):
        self._write("W", message)

    def error(self, message):
        self._write("E", message)

    def _write(self, mark, message):
        global _shown
        context = self.context()
        lines = str(message).splitlines()
        if self.console:
            if _shown != context:
                sys.stderr.write(f"@ {context}\n")
                _shown = context
            for line in lines:
                sys.stderr.write(f"{mark} {line}\n")
            sys.stderr.flush()
        if self.file:
            import datetime

            stamp = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
            env.makedirs(os.path.dirname(self.file))
            with open(self.file, "a", encoding="utf-8") as stream:
                for line in lines:
                    stream.write(f"{stamp} {mark.strip() or 'I'} {context} | {line}\n")
