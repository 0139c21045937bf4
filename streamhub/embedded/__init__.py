"""Embedded PostgreSQL: a child process with its data in a directory of the hub.

    <data_dir>/postgresql/            PostgreSQL's user may enter it
        data/                         the cluster
        s/                            its Unix socket (in /tmp where this path is too long)
        lock                          held by the streamhub process that runs the server; has its pid
        port, password, log           the TCP port on 127.0.0.1, the password of the role postgres, the server's log
        server-<version>/             a copy of the binaries, where that user cannot reach the installed ones

`directory` reads and locks these files. `account` finds the user and the binaries. `launcher` runs a program as that
user. `server` creates, starts and stops the cluster.
"""

from streamhub.embedded.account import installed_binaries
from streamhub.embedded.directory import check_free, has_server, url_of_running
from streamhub.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "check_free", "has_server", "installed_binaries", "url_of_running"]
