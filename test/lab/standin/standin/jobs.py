"""The daemon's children: actions, status refreshes, fetches of configurations."""

import os
import signal
import sys
import traceback


class Job:
    def __init__(self, kind, path, done):
        self.kind = kind
        self.path = path
        self.done = done


class Jobs:
    def __init__(self, daemon):
        self.daemon = daemon
        self.alive = {}

    def start(self, kind, path, work, done=None):
        """Run ``work`` in a child, then ``done(exit code)`` in the daemon."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self.become_child()
                code = int(work() or 0)
            except BaseException:
                traceback.print_exc(file=sys.stderr)
            finally:
                os._exit(code)
        self.alive[pid] = Job(kind, path, done)

    def become_child(self):
        """Let go of what is the daemon's alone."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        daemon = self.daemon
        daemon.selector.close()
        for sock in (
            *daemon.listeners.values(),
            *(one.sock for one in daemon.connections.values()),
        ):
            sock.close()
        daemon.wake_read.close()
        daemon.wake_write.close()

    def reap(self):
        """Collect the children that ended; return whether any did."""
        ended = False
        while self.alive:
            try:
                pid, wait = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            job = self.alive.pop(pid, None)
            if job is None:
                continue
            ended = True
            if job.done:
                job.done(os.waitstatus_to_exitcode(wait))
        return ended

    def busy(self, kind, path):
        return any(job.kind == kind and job.path == path for job in self.alive.values())

    def count(self, kind):
        return sum(1 for job in self.alive.values() if job.kind == kind)
