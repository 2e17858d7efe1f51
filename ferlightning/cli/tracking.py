"""W&B out of reach: a training goes on offline."""

import logging
import os
import socket
from urllib.parse import urlsplit

WAIT = 5
"""Seconds in which the server must answer; wandb itself would wait for a minute and a half."""
log = logging.getLogger(__name__)


def go_offline_if_unreachable() -> None:
    """Set W&B's mode to offline, with a warning, if its server does not take a connection."""
    if os.environ.get("WANDB_MODE", "online") != "online":
        return
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    url = urlsplit(address)
    try:
        socket.create_connection((url.hostname or "", url.port or (443 if url.scheme == "https" else 80)), WAIT).close()
    except OSError as error:
        os.environ["WANDB_MODE"] = "offline"
        log.warning("W&B is out of reach (%s: %s): this run is kept offline; upload it by wandb sync", address, error)
