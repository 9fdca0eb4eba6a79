"""Runs a script of tlsfuzzer with the request of HTTP that it makes replaced by a hello of this protocol.

A server of HTTP waits for the rest of `GET /`; ours refuses it at its first byte and goes on to close. Where a script
needs a connection that lives on, each piece of its request becomes a piece of the hello.
"""

import runpy
import sys
from pathlib import Path

from tlsfuzzer import messages

HELLO = (Path(__file__).parent.parent / "golden" / "hello.bin").read_bytes()
PIECE_BYTES = 8
_sent = 0


def piece_for(request):
    """The next piece of the hello: all that is left of it for the piece that ends the request."""
    global _sent
    start = 0 if request.startswith(b"GET ") else _sent
    _sent = len(HELLO) if request.endswith(b"\r\n\r\n") else start + PIECE_BYTES
    return bytearray(HELLO[start:_sent])


_init = messages.ApplicationDataGenerator.__init__


def _translated(self, payload):
    _init(self, piece_for(bytes(payload)) if payload else payload)


messages.ApplicationDataGenerator.__init__ = _translated
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
