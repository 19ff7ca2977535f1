"""
What lets a node join an OpenSVC cluster, sealed for the minion that is to have it: pure functions over the two minions' key pairs.

The cluster's secret would fit into one RSA block; a token of agent 3, some 6 KB, does not. So a key of its own is sealed by RSA and the text by that key.
Only the joining minion can open it, whoever reads the event bus or the job cache on the way.
"""

import base64
import binascii

from salt.exceptions import CommandExecutionError

_BEGIN = "opensvc:1:"


def _padding():
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    return padding.OAEP(
        mgf=padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None
    )


def seal(text, public_key):
    """``text`` for the owner of a minion's public key (PEM), as one line."""
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        receiver = load_pem_public_key(str(public_key).encode())
    except ValueError:
        raise CommandExecutionError(
            "That is no public key in PEM, such as the receiving minion's minion.pub"
        ) from None
    key = Fernet.generate_key()
    head = base64.urlsafe_b64encode(receiver.encrypt(key, _padding())).decode()
    return f"{_BEGIN}{head}:{Fernet(key).encrypt(text.encode()).decode()}"


def unseal(sealed, private_key):
    """The text, by the receiving minion's private key (PEM, bytes)."""
    from cryptography.fernet import Fernet, InvalidToken
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not str(sealed).startswith(_BEGIN):
        raise CommandExecutionError("That is no sealed value; opensvc.sealed_join_secret makes one")
    head, _, body = str(sealed)[len(_BEGIN) :].partition(":")
    try:
        key = load_pem_private_key(private_key, None).decrypt(
            base64.urlsafe_b64decode(head), _padding()
        )
        return Fernet(key).decrypt(body.encode()).decode()
    except (ValueError, InvalidToken, binascii.Error):
        raise CommandExecutionError(
            "The sealed value was not made for this minion, or its key has changed since, or it was cut"
        ) from None
