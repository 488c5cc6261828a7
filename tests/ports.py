"""Free ports for the servers of tests."""

import random
import socket
from contextlib import ExitStack, suppress

PORTS = range(20_000, 32_000)
"""Neither among those that the kernel gives to anyone who asks for any (a server that starts later would find
its port taken by another test's Ray), nor among those of Ray's workers."""


def free_ports(number: int) -> list[int]:
    """Ports on which nobody listens."""
    found = list[int]()
    with ExitStack() as probes:
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            probe = probes.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == number:
                return found
    raise AssertionError("all ports are taken")
