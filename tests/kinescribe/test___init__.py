import inspect
import pydoc
import subprocess
import sys

import pytest

import kinescribe
from kinescribe.schemas.errors import UserError
from kinescribe.schemas.version import VERSION

FUNCTIONS = [name for name in kinescribe.__all__ if inspect.isfunction(getattr(kinescribe, name))]
HEAVY = ("pydantic", "pyarrow", "polars", "torch", "ray", "kinescribe.cluster", "kinescribe.storage")


def test_the_version_is_the_one_that_datasets_record():
    assert kinescribe.__version__ == VERSION


def test_every_public_name_is_listed_and_resolves():
    assert {*kinescribe.__all__} <= {*dir(kinescribe)}
    assert {"label", "train", "evaluate", "plan", "LabelConfig", "UserError"} <= {*kinescribe.__all__}
    for name in kinescribe.__all__:
        assert getattr(kinescribe, name) is not None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_documented_with_an_example(name: str):
    docstring = inspect.getdoc(getattr(kinescribe, name))
    assert docstring
    assert f">>> kinescribe.{name}(" in docstring


@pytest.mark.parametrize("name", kinescribe.evaluate.__all__)
def test_an_evaluation_is_documented_with_an_example(name: str):
    assert f">>> kinescribe.evaluate.{name}(" in (inspect.getdoc(getattr(kinescribe.evaluate, name)) or "")


def test_help_shows_functions_with_their_signatures_and_configurations():
    shown = pydoc.plain(pydoc.render_doc(kinescribe))
    assert "label(input: 'StrPath', out: 'StrPath', config: 'LabelConfig | None' = None" in shown
    assert "class LabelConfig(" in shown


def test_every_error_is_a_user_error():
    errors = [getattr(kinescribe, name) for name in kinescribe.__all__ if name.endswith("Error")]
    assert len(errors) == 6
    assert all(issubclass(error, UserError) for error in errors)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="labell"):
        _ = kinescribe.labell


def test_importing_the_package_imports_nothing_heavy():
    probe = f"import sys, kinescribe; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_public_functions_of_evaluate_are_listed():
    assert dir(kinescribe.evaluate) == sorted(kinescribe.evaluate.__all__)
