"""The one exception for what a user can get wrong, and how a command line reports it."""

import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something that the user gave is wrong.

    The message says what is wrong, where (file, line, utterance), what was expected and what to do. Command lines
    print it without a traceback and exit with status 2.
    """


def exit_status(command: Callable[[], object]) -> int:
    """Run a command: 0, or 2 after one line on stderr where the user's input was wrong."""
    try:
        command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
