"""The errors a user can cause, and so can mend.

    CharacterError
    ├── SpecError        a trait file is wrong: file, line, column, what to write instead
    ├── RecipeError      a recipe, a --set or another option is wrong
    ├── ModelError       a model is unknown, missing, damaged or cannot do what is asked
    ├── SuiteError       a suite, a gate or a file of saved replies is wrong
    ├── RunError         a run folder is in use, damaged, or holds another build
    └── ResourceError    too little memory or disk

Commands print these without a traceback and exit with 2. Anything else is a bug.
"""


class CharacterError(Exception):
    """What was found, where, and what to do next, in one message."""


class SpecError(CharacterError):
    pass


class RecipeError(CharacterError):
    pass


class ModelError(CharacterError):
    pass


class SuiteError(CharacterError):
    pass


class RunError(CharacterError):
    pass


class ResourceError(CharacterError):
    pass
