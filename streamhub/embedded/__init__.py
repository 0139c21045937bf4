"""Embedded PostgreSQL: a server of our own, our child process, on a directory of ours.

    <data_dir>/postgresql/            entered by the user that PostgreSQL runs as
        data/                         the cluster
        s/                            its unix socket (in /tmp where this path is too long for one)
        lock                          held by the streamhub process that runs the server; names its pid
        port, password, log           the TCP port on 127.0.0.1, the password of the role postgres, what the server said
        server-<version>/             the binaries, only where that user cannot reach the installed ones

`directory` reads and locks these files, `account` finds the user and the binaries, `launcher` becomes a program of that
user, `server` makes the cluster, starts it and ends it.
"""

from streamhub.embedded.account import installed_binaries
from streamhub.embedded.directory import url_of_running
from streamhub.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "installed_binaries", "url_of_running"]
