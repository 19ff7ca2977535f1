"""
Many minions in one process: each has its id, its session with the master, and its own two connections to it; none has a process, modules or files.

They speak by Salt's own channel and cryptography. Two things are made otherwise than by a minion, as thousands of them would be busy with nothing else: requests go
over sockets of one context that do not wake up while nothing comes, and of a publication that comes over each minion's own connection only the first copy is
decrypted. What the master does for them is the same.

    minions.py CONFIGURATION

The file is JSON: master (host, port of publications, port of requests), folder (with the key of all of them), ids, pace ({function: seconds that a node takes}). Each
line on standard input is a command: ``said`` prints what was done so far as a line of JSON; the end of the input is the end of the minions.
"""

import asyncio
import collections
import copy
import fnmatch
import json
import os
import pathlib
import resource
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import salt.channel.client  # noqa: E402
import salt.config  # noqa: E402
import salt.crypt  # noqa: E402
import salt.loader  # noqa: E402
import salt.payload  # noqa: E402
import salt.utils.args  # noqa: E402
import salt.utils.data  # noqa: E402
import tornado.ioloop  # noqa: E402
import zmq  # noqa: E402
import zmq.asyncio  # noqa: E402
from salt.exceptions import SaltReqTimeoutError  # noqa: E402

from bench import replay  # noqa: E402

# How many begin at once. A master that is asked by all of them at once lets requests run out of their time.
_AT_ONCE = 50
# Sockets for each minion, and what else is open.
_FILES, _MORE_FILES = 3, 500


class Wire:
    """A minion's connection for requests, as ``salt.transport`` gives one to a channel: one request at a time, which the channel sees to."""

    ttype = "zeromq"

    def __init__(self, context, uri):
        self._context, self._uri, self._socket = context, uri, None

    async def connect(self):
        if self._socket is None:
            self._socket = self._context.socket(zmq.REQ)
            self._socket.linger = 0
            self._socket.connect(self._uri)

    async def send(self, load, timeout=60):
        await self.connect()
        try:
            await self._socket.send(salt.payload.dumps(load))
            return salt.payload.loads(await asyncio.wait_for(self._socket.recv(), timeout))
        except asyncio.TimeoutError:
            # A socket that waits for an answer cannot ask again.
            self.close()
            raise SaltReqTimeoutError("Message timed out") from None

    def close(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Minion:
    """One minion: who it is, and how it asks the master."""

    def __init__(self, opts, context, loop, grains):
        self.id, self.opts, self._grains = opts["id"], opts, grains
        self.auth = salt.crypt.AsyncAuth(opts, io_loop=loop)
        wire = Wire(context, opts["master_uri"])
        self.channel = salt.channel.client.AsyncReqChannel(opts, wire, self.auth)
        self.pillar, self.jobs = {}, {}

    async def begin(self):
        """What a minion does when it starts: it signs in, asks for its pillar and says that it is there."""
        await self.auth.authenticate()
        self.pillar = await self.ask("_pillar")
        data = {"cmd": "_minion_event", "pretag": None, "data": f"Minion {self.id} started", "tag": f"salt/minion/{self.id}/start"}  # fmt: skip
        await self.channel.send({**data, "id": self.id})

    async def ask(self, command, path=None):
        """One request, as a minion makes it."""
        if command == "_pillar":
            load = {
                "id": self.id, "grains": {**self._grains, "id": self.id}, "saltenv": None, "pillarenv": None, "pillar_override": {},
                "extra_minion_data": {}, "ver": "2", "cmd": command,
            }  # fmt: skip
            return await self.channel.crypted_transfer_decode_dictentry(load, dictkey="pillar")
        load = {"cmd": command, "saltenv": "base"}
        if path is not None:
            load["path"] = path
        return await self.channel.send(load)

    def meant(self, target, kind):
        """Whether a publication is for this minion."""
        if kind == "list":
            return self.id in target
        if kind == "pillar":
            return salt.utils.data.subdict_match(self.pillar, target)
        if kind == "glob":
            return fnmatch.fnmatchcase(self.id, target)
        raise ValueError(f"no minion is played that is chosen by {kind}: {target}")


class Minions:
    """All of them."""

    def __init__(self, config):
        self._loop = tornado.ioloop.IOLoop.current()
        self._context = zmq.asyncio.Context()
        self._context.set(zmq.MAX_SOCKETS, len(config["ids"]) + 16)
        self._config, self._replay = config, replay.Replay()
        folder = pathlib.Path(config["folder"])
        host, self._publications, requests = config["master"]
        self._host = host
        base = salt.config.minion_config(None)
        base.update(
            root_dir=str(folder), pki_dir=str(folder), cachedir=str(folder / "cache"), sock_dir=str(folder / "sock"), id="all", master=host, master_ip=host,
            master_port=requests, publish_port=self._publications, master_uri=f"tcp://{host}:{requests}", __role="minion", request_channel_timeout=120,
        )  # fmt: skip
        grains = salt.loader.grains(base)
        self.minions = {
            one: Minion({**base, "id": one}, self._context, self._loop, grains)
            for one in config["ids"]
        }
        self.said = collections.Counter()
        self.wrong = []
        self._tasks = set()

    async def begin(self):
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(minion):
            async with room:
                await minion.begin()

        await asyncio.gather(*map(one, self.minions.values()))
        self._spawn(self._listen())

    def _spawn(self, work):
        # A task that nobody holds may be collected while it runs.
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task):
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            self.wrong.append(repr(task.exception()))

    async def _listen(self):
        ear = self._context.socket(zmq.SUB)
        ear.rcvhwm = 0
        ear.subscribe(b"")
        for number in range(len(self.minions)):
            # A socket connects to an address once: each minion comes from another of this machine's loopback.
            source = f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
            ear.connect(f"tcp://{source}:0;{self._host}:{self._publications}")
        auth = next(iter(self.minions.values())).auth
        raw, copies = zmq.Socket.shadow(ear), {}
        while True:
            message = await ear.recv()
            while message is not None:
                self.said["copies"] += 1
                left = copies.pop(message, len(self.minions)) - 1
                if left == len(self.minions) - 1:
                    self._publication(auth.crypticle.loads(salt.payload.loads(message)["load"]))
                if left:
                    copies[message] = left
                try:
                    message = raw.recv(zmq.NOBLOCK)
                except zmq.Again:
                    message = None

    def _publication(self, load):
        self.said["publications"] += 1
        for minion in self.minions.values():
            if minion.meant(load["tgt"], load["tgt_type"]):
                self._spawn(self._work(minion, load))

    async def _work(self, minion, load):
        """What a minion does with a job: it asks what it needs, takes its time, and returns."""
        several = isinstance(load["fun"], list)
        returned, arguments = {}, load["arg"] if several else [load["arg"]]
        minion.jobs[load["jid"]] = load["fun"]
        try:
            for function, given in zip(load["fun"] if several else [load["fun"]], arguments, strict=True):  # fmt: skip
                returned[function] = await self._function(minion, function, given)
        finally:
            del minion.jobs[load["jid"]]
        good = {function: True for function in returned}
        answer = {
            "cmd": "_return", "id": minion.id, "jid": load["jid"], "fun": load["fun"], "fun_args": load["arg"],
            "return": returned if several else next(iter(returned.values())),
            "retcode": dict.fromkeys(good, 0) if several else 0, "success": good if several else True,
        }  # fmt: skip
        if "user" in load:
            answer["user"] = load["user"]
        await minion.channel.send(answer)
        self.said["returns"] += 1

    async def _function(self, minion, function, given):
        # It takes what is Salt's own out of them, and all minions have one load.
        arguments, keywords = salt.utils.args.parse_input(copy.deepcopy(given), condition=False)
        self.said[function] += 1
        if function == "saltutil.find_job":
            doing = minion.jobs.get(arguments[0])
            return {"jid": arguments[0], "fun": doing, "pid": 1} if doing else {}
        for command, path in self._replay.questions(function, arguments, keywords):
            await minion.ask(command, path)
            self.said[command] += 1
        await asyncio.sleep(self._config["pace"].get(function, 0))
        return self._replay.answer(minion.id, function, arguments, keywords)

    def report(self):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "said": dict(self.said), "wrong": self.wrong[:5], "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024, "busy": len(self._tasks) - 1,
        }  # fmt: skip


def allow_files(number):
    """Let this process have so many files open; raises where it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < number:
        raise OSError(
            f"{number} open files are needed and {hard} are allowed: ulimit -n, or fewer minions"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))


async def main(path):
    config = json.loads(pathlib.Path(path).read_text())
    allow_files(_FILES * len(config["ids"]) + _MORE_FILES)
    minions = Minions(config)
    await minions.begin()
    print(json.dumps(minions.report()), flush=True)
    loop, lines = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps(minions.report()), flush=True)
    # What waits for the master would wait on: nothing of the minions is kept.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
