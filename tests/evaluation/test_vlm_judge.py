import json
from pathlib import Path

import pytest
from PIL import Image

from kinescribe.evaluation.vlm_judge import JudgeReply, Sample, Scores, judge_samples, parse
from kinescribe.models.endpoint import Endpoint
from kinescribe.schemas.errors import InputError
from tests.judge_server import Answer, JudgeServer, serving


def samples(folder: Path, *names: str) -> dict[str, Sample]:
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    file = folder / "a.png"
    return {name: Sample(action=f'do "{name}"', source=file, output=file) for name in names}


def judge(server: JudgeServer, folder: Path, *names: str, model: str = "judge") -> dict[str, JudgeReply]:
    endpoint = Endpoint(model, server.url, max_retries=0, num_at_once=1)
    return judge_samples(
        endpoint, samples(folder, *names), folder / "replies.jsonl", lambda done, total: None
    )


def kept(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "replies.jsonl").read_text().splitlines()]


def test_the_smaller_score_counts(tmp_path: Path):
    with serving(JudgeServer(always=Answer('It moved.\n{"editing": 8, "minimal": 6.5}'))) as server:
        verdicts = judge(server, tmp_path, "left")
    assert verdicts["left"].score == 6.5
    asked = server.asked[0]["messages"][0]["content"]
    assert [part["type"] for part in asked] == ["image_url", "image_url", "text"]
    assert 'do "left"' in asked[-1]["text"]
    assert '{"editing": SCORE, "minimal": SCORE}' in asked[-1]["text"]


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ('```json\n{"editing": 0, "minimal": 10}\n```', (0, 10)),
        ('{"editing": 1, "minimal": 1} or rather {"editing": 2, "minimal": 3, "why": "x"}', (2, 3)),
        ("8 and 9", None),
        ("", None),
        ('{"editing": 8}', None),
        ('{"editing": 11, "minimal": 3}', None),
        ('{"editing": -1, "minimal": 3}', None),
        ('{"editing": "8", "minimal": 3}', None),
        ('{"editing": true, "minimal": 3}', None),
        ('{"editing": NaN, "minimal": 3}', None),
        ('{"editing": 8, "minimal": 3} {"editing": "?"}', None),
        ('{"editing": 8, "minimal": 3', None),
    ],
)
def test_only_two_scores_from_0_to_10_are_scores(reply: str, scores: tuple[float, float] | None):
    assert parse(reply) == (scores and Scores(editing=scores[0], minimal=scores[1]))


def test_a_failure_has_no_score_and_every_reply_is_kept(tmp_path: Path):
    answers = [
        Answer("I cannot say"),
        Answer(status=400, body=b"no"),
        Answer(body=b"{"),
        Answer('{"editing": 1, "minimal": 2}'),
    ]
    with serving(JudgeServer(answers)) as server:
        verdicts = judge(server, tmp_path, "a", "b", "c", "d")
    assert [verdicts[name].score for name in "abcd"] == [None, None, None, 1]
    assert [(line["sample"], line["failure"], line["reply"]) for line in kept(tmp_path)] == [
        ("a", "unparsable", "I cannot say"),
        ("b", "refused", "400 no"),
        ("c", "garbage", "{"),
        ("d", None, '{"editing": 1, "minimal": 2}'),
    ]


def test_what_a_judge_has_scored_is_not_asked_again_but_what_failed_is(tmp_path: Path):
    good = Answer('{"editing": 4, "minimal": 5}')
    with serving(JudgeServer([good, Answer("?")], good)) as server:
        judge(server, tmp_path, "a", "b")
        with (tmp_path / "replies.jsonl").open("a") as file:
            file.write('{"judge": "killed in the mid')
        again = judge(server, tmp_path, "a", "b", "c")
        assert len(server.asked) == 4
        assert [again[name].score for name in "abc"] == [4, 4, 4]
        judge(server, tmp_path, "a", model="another")
        assert len(server.asked) == 5
    assert len(kept(tmp_path)) == 5


def test_another_file_is_not_written_to(tmp_path: Path):
    (tmp_path / "replies.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="move it away"):
        judge(JudgeServer(), tmp_path, "a")
