"""The errors that a user can mend; the command line shows them without a traceback.

    ValueError
    └── UserError            a value the user gave: names it, says what is wrong and the remedy
        ├── InputError       the input: a manifest, a path, a glob
        ├── ConfigError      an option or a configuration key
        ├── DatasetError     a dataset folder: another run's, damaged, not one at all
        ├── StoreError       a disk or an object store: full, forbidden, without an answer
        └── ModelError       a model folder or name: missing, of an unknown kind, damaged

An unusable *clip* is none of these: it is a `kinescribe.schemas.outcomes.Rejected` and never ends a run.
"""


class UserError(ValueError):
    """A value that the user can mend; the message gives name, value and remedy."""


class InputError(UserError):
    """The input to label cannot be taken as given."""


class ConfigError(UserError):
    """An option or configuration key cannot be taken as given."""


class DatasetError(UserError):
    """A dataset folder cannot be used as asked."""


class StoreError(UserError):
    """A disk or an object store does not take or give what it should."""


class ModelError(UserError):
    """A model cannot be loaded as named."""
