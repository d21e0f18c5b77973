"""Serves the files of a folder over HTTP on 127.0.0.1, as cheaply as the system can.

    python -m benchmarks.file_server FOLDER

Prints its port. What it takes of the processor is not what is measured, so the kernel copies the
bytes, and nothing but GET of one flat folder is known.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path


def serve(connection: socket.socket, folder: Path) -> None:
    """Answer until the other side hangs up."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting = b""
    while True:
        while b"\r\n\r\n" not in waiting:
            arrived = connection.recv(1 << 16)
            if not arrived:
                return
            waiting += arrived
        head, waiting = waiting.split(b"\r\n\r\n", 1)
        name = head.split(b" ", 2)[1].decode("ascii").rsplit("/", 1)[-1]
        with (folder / name).open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
            connection.sendfile(file)


def main() -> None:
    """Entry point."""
    folder = Path(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=serve, args=(connection, folder), daemon=True).start()


if __name__ == "__main__":
    main()
