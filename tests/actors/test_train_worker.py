from kinescribe.schemas.errors import DatasetError
from kinescribe.schemas.training import DynamicsTraining
from tests.tiny_triplets import write_triplets
from tests.tiny_vlm import tiny_vlm


class FakeQueue(list):
    put = list.append


def test_a_user_error_is_reported_instead_of_raised(tmp_path):
    from kinescribe.actors.train_worker import train_worker

    tiny_vlm().save(tmp_path / "model")
    write_triplets(str(tmp_path / "triplets"), 3, "another")
    config = DynamicsTraining(
        data=(str(tmp_path / "triplets"),), out=str(tmp_path), init=str(tmp_path / "model"), steps=1
    )
    reports = FakeQueue()
    train_worker({"config": config, "reports": reports, "threads": 1})
    (error,) = reports
    assert isinstance(error, DatasetError)
    assert "another" in str(error)
