"""The errors that a user can fix. The command line prints them without a traceback.

    ValueError
    └── UserError            a value that the user gave: names it, says what is wrong and how to fix it
        ├── InputError       the input: a manifest, a path, a glob
        ├── ConfigError      an option or a configuration key
        ├── DatasetError     a dataset folder: another run's, damaged, not a dataset
        ├── StoreError       a disk or an object store: full, forbidden, not answering
        └── ModelError       a model folder or name: missing, of an unknown kind, damaged
            └── ServerAway   a model server that has not answered for minutes

An unusable *clip* raises none of these. It becomes a `kinescribe.schemas.outcomes.Rejected`, and the run
goes on.
"""


class UserError(ValueError):
    """An error that the user can fix. The message gives name, value and remedy."""


class InputError(UserError):
    """The input cannot be used."""


class ConfigError(UserError):
    """An option or configuration key has a wrong value."""


class DatasetError(UserError):
    """A dataset folder is another run's, damaged, or not a dataset."""


class StoreError(UserError):
    """A disk or an object store cannot be read or written."""


class ModelError(UserError):
    """A model is missing, damaged, or of an unknown kind."""


class ServerAway(ModelError):
    """A model server has not answered for minutes. It ends a run, whose other errors reject a clip."""
