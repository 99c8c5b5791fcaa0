"""The one exception for what a user can get wrong."""


class InputError(ValueError):
    """Something that the user gave is wrong.

    The message says what is wrong, where (file, line, utterance), what was expected and what to do. Command lines
    print it without a traceback and exit with status 2.
    """
