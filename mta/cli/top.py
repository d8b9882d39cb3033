"""``mta top``: the running server, live in a terminal. It asks the control socket once a second, and nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from mta.cli.daemon import CONFIG, ask_daemon, examples, state_directory
from mta.service.asking import CommandRefused, ask, socket_path

HEIGHT, WIDTH = 24, 80
"""What ``--once`` draws for, where standard output is no terminal."""


@click.command(epilog=examples("mta top --once"))
@CONFIG
@click.option("--once", is_flag=True, help="Print one frame as plain text, and end.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    help="Seconds between two looks, over which rates are counted.",
)
def top(config: Path, once: bool, interval: float) -> None:
    """Watch the server: rates, sessions, the queue and why it waits, disk and load, last events.

    Rates are those of the last interval. What waits for an attempt is shown by destination, the largest first; the
    list may be some seconds old, or older where the queue is very long. Press q to leave.
    """
    before = _frame(ask_daemon(config, "top"))
    path = socket_path(state_directory(str(config.absolute())))
    if once or not sys.stdout.isatty():
        time.sleep(interval)
        print_once(before, _frame(ask_daemon(config, "top")))
    else:
        watch(before, lambda: _frame(ask(path, "top")), interval)


def _frame(answer: dict[str, Any]) -> Any:
    from mta.cli.top_view import Frame

    return Frame(answer, time.monotonic(), time.time())


def print_once(before: Any, after: Any) -> None:
    """Print a frame without colours."""
    from rich.console import Console

    from mta.cli.top_view import draw

    console = Console(no_color=True, highlight=False, force_terminal=False)
    width, height = (console.width, console.height) if console.is_terminal else (WIDTH, HEIGHT)
    console = Console(no_color=True, highlight=False, width=width)
    with console.capture() as captured:
        console.print(draw(before, after, height, width))
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def watch(before: Any, look: Callable[[], Any], interval: float) -> None:
    """Draw frame after frame on the whole terminal, until q is pressed; a daemon that is gone is waited for."""
    from rich.console import Console
    from rich.live import Live

    from mta.cli.top_view import draw

    console = Console(highlight=False)
    after, wait = before, min(interval, 0.3)  # the first frame soon
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not pressed(wait):
            problem, wait = "", interval
            try:
                before, after = after, look()
            except (OSError, CommandRefused) as error:
                problem = getattr(error, "strerror", None) or str(error)
            live.update(draw(before, after, console.height, console.width, problem), refresh=True)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Give what waits so many seconds for a key, and says whether it is one that ends the watch."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    import select
    import termios
    import tty

    kept = termios.tcgetattr(sys.stdin)

    def pressed(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left)[0]:
                keys = os.read(sys.stdin.fileno(), 64)  # not by way of Python: select knows nothing of its buffer
                if not keys or b"q" in keys.lower():
                    return True
        return False

    try:
        tty.setcbreak(sys.stdin)
        yield pressed
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, kept)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
