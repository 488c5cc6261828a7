import pytest

from kinescribe.schemas.errors import UserError
from kinescribe.storage import objects, uri


def test_an_empty_name_is_refused():
    for use in (uri.absolute, objects.exists, lambda name: uri.join(name, "run.json")):
        with pytest.raises(UserError, match="empty name"):
            use("")
