"""Whether an interface in a namespace is up."""
from __future__ import annotations

import fcntl
import socket
import struct
from typing import Final

from controller.host import netns

_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 1
_NAME: Final = 16  # bytes of an interface's name in the kernel's ifreq


def is_up(namespace: str, interface: str) -> bool:
    """False also for an interface that is not there. NamespaceError if the namespace is gone."""
    with netns.inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        request = struct.pack(f"{_NAME}sH14x", interface.encode(), 0)
        try:
            answer = fcntl.ioctl(asked.fileno(), _SIOCGIFFLAGS, request)
        except OSError:
            return False
    return bool(struct.unpack_from("H", answer, _NAME)[0] & _IFF_UP)
