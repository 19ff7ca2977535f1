"""What travels: sealed messages between nodes, plain ones on the local socket."""

import json
import os
import socket

from . import env
from .errors import Failed

MAGIC = b"SHA1"
NONCE = 16
MAC = 32
LIMIT = 16 * 1024 * 1024


class Refused(Failed):
    """The other side does not know our secret, or we do not know its."""


def _keys(secret):
    import hmac

    seed = secret.encode()
    return tuple(hmac.digest(seed, label, "sha256") for label in (b"encrypt", b"authenticate"))


def _mask(key, nonce, data):
    import hashlib

    stream = hashlib.shake_256(key + nonce).digest(len(data))
    size = len(data)
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def seal(secret, message):
    """A message only holders of the cluster secret can read or make."""
    import hmac
    import zlib

    encrypt, authenticate = _keys(secret)
    nonce = os.urandom(NONCE)
    body = MAGIC + nonce + _mask(encrypt, nonce, zlib.compress(json.dumps(message).encode(), 1))
    return body + hmac.digest(authenticate, body, "sha256")


def unseal(secret, data):
    import hmac
    import zlib

    encrypt, authenticate = _keys(secret)
    body, mac = data[:-MAC], data[-MAC:]
    if len(data) < len(MAGIC) + NONCE + MAC or not body.startswith(MAGIC):
        raise Refused("malformed message")
    if not hmac.compare_digest(mac, hmac.digest(authenticate, body, "sha256")):
        raise Refused("authentication refused: the cluster secret differs")
    nonce = body[len(MAGIC) : len(MAGIC) + NONCE]
    return json.loads(zlib.decompress(_mask(encrypt, nonce, body[len(MAGIC) + NONCE :])))


def read_all(connection):
    chunks = []
    total = 0
    while chunk := connection.recv(65536):
        chunks.append(chunk)
        total += len(chunk)
        if total > LIMIT:
            raise Failed("message too long")
    return b"".join(chunks)


def local(request, timeout=30):
    """Ask the local daemon; OSError when it cannot be asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(env.socket_path())
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    if not answer:
        raise ConnectionResetError("the daemon closed the connection")
    return json.loads(answer)


def remote(address, port, secret, request, timeout=20):
    """Ask the daemon of another node."""
    with socket.create_connection((address, port), timeout=timeout) as connection:
        connection.sendall(seal(secret, request))
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    if answer == b"refused" or not answer:
        raise Refused("authentication refused: the cluster secret differs")
    return unseal(secret, answer)


def tcp_socket(address, port):
    """A listening address of either family; ``::`` takes both."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((address, port))
    return sock
