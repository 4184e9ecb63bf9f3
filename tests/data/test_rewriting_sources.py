"""E-mails with subjects, and lines of Django: the forms of their files, and the sets where they are at hand."""

import pytest

from transformer_jax.data.sources.aeslc import email_and_subject
from transformer_jax.data.sources.named_pairs import NamedDataset
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.errors import ConfigError


def test_subject_is_that_of_the_sender() -> None:
    text = "Hi,\n\tsee\u00a0@subject below.\n\n@subject\nRe: a  plan\n\n@ann0\nplan\n\n@ann1\nthe plan"
    assert email_and_subject(text) == ("Hi, see @subject below.", "Re: a plan")


def test_email_may_quote_another_one() -> None:
    text = "As I wrote:\n\n@subject\nold\n\nbye\n\n@subject\nnew"
    assert email_and_subject(text) == ("As I wrote: @subject old bye", "new")


@pytest.mark.parametrize("text", ["", "no subject here"])
def test_email_without_a_subject_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no line '@subject'"):
        email_and_subject(text)


def test_sets_have_no_languages() -> None:
    with pytest.raises(ConfigError, match="has no languages to choose"):
        NamedDataset(name="aeslc", source_language="en", target_language="de")


@pytest.mark.skipif(not is_at_hand("aeslc"), reason="aeslc is not at hand")
def test_aeslc_has_its_three_parts() -> None:
    splits = NamedDataset(name="aeslc").load()
    assert [len(part) for part in (splits.train, splits.development, splits.test)] == [14_436, 1_960, 1_906]
    assert splits.development[0].references == ("Confirmation: Risk Management Simulation Meeting 10/30/01",)
    assert not any("@ann" in item.references[0] or not item.source for item in splits.test)


@pytest.mark.skipif(not is_at_hand("django-code"), reason="django-code is not at hand")
def test_django_has_its_three_parts() -> None:
    splits = NamedDataset(name="django-code").load()
    assert [len(part) for part in (splits.train, splits.development, splits.test)] == [16_000, 1_000, 1_805]
    assert (splits.train[-1].line, splits.test[0].line) == (16_000, 17_001)
    seen = {(pair.source, pair.target) for pair in splits.train}
    assert sum((item.source, item.references[0]) in seen for item in splits.test) == 255
