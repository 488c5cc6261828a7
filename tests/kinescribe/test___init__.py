import subprocess
import sys

import pytest

import kinescribe
from kinescribe.schemas.version import VERSION
from kinescribe.storage import audit


def test_the_version_is_the_one_that_datasets_record():
    assert kinescribe.__version__ == VERSION


@pytest.mark.parametrize("name", kinescribe.__all__)
def test_every_public_name_resolves(name: str):
    assert callable(getattr(kinescribe, name))


def test_a_public_function_is_the_rooms_own():
    assert kinescribe.status is audit.status


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="labell"):
        _ = kinescribe.labell


def test_importing_the_package_imports_no_room():
    probe = "import sys, kinescribe; print('storage' in sys.modules, 'cluster' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
