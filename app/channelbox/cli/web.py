"""`channelbox web`: one web process."""

import socket
from typing import Annotated

import typer

from channelbox.cli.errors import give_up


def web(
    host: Annotated[str, typer.Option(help="Address to listen on if no socket is passed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on if no socket is passed.", min=0, max=65535)] = 8000,
    fd: Annotated[int | None, typer.Option(help="File descriptor of an inherited listening socket.")] = None,
) -> None:
    """Serve pages and WebSockets on systemd's socket if there is one, else on --fd, else on --host and --port."""
    from channelbox import server

    listener = server.systemd_socket()
    if listener is None and fd is not None:
        try:
            listener = socket.socket(fileno=fd)
        except OSError as error:
            give_up(f"File descriptor {fd} is not a socket: {error.strerror}.", "Leave out --fd, or pass a socket.")
    if listener is None:
        try:
            listener = server.bind(host, port)
        except OSError as error:
            give_up(f"Cannot listen on {host} port {port}: {error.strerror}.", "Choose another with --host and --port.")
    server.serve(listener)
