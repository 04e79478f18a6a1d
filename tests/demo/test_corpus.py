from __future__ import annotations

from pathlib import Path

from airflow_sm_git.demo.corpus import hold_out, split_sentences, write_corpus


def test_prose_is_kept_and_grammar_and_code_are_left_out() -> None:
    text = (
        'The "for" statement\n*******************\n\n'
        'The "for" statement is used to iterate\nover the elements of a sequence. Too short.\n\n'
        '   for_stmt ::= "for" target_list "in" starred_list.\n\n'
        "   x = [1, 2, 3] and a few words more.\n\n"
        "It doesn\u2019t use collections.abc, see also (PEP 634):\n"
    )
    assert split_sentences(text) == [
        "the for statement is used to iterate over the elements of a sequence .",
        "it doesn't use collections.abc , see also ( pep 634 ) :",
    ]


def test_a_sentence_of_a_held_out_topic_is_nowhere_in_the_training_text() -> None:
    shared = "both of the topics say this ."
    topics = {f"topic {number}": [f"this is said by topic {number} .", shared] for number in range(40)}
    names, train, held = hold_out(topics)
    assert 2 < len(names) < 10
    assert set(held) == {shared, *(f"this is said by {name} ." for name in names)}
    assert not set(train) & set(held)
    assert set(train) | set(held) == {sentence for topic in topics.values() for sentence in topic}


def test_every_sentence_counts_once_and_at_most_an_eighth_is_held_out(corpus: Path) -> None:
    train = (corpus / "train.txt").read_text().splitlines()
    held = (corpus / "valid.txt").read_text().splitlines()
    assert len(set(train + held)) == len(train) + len(held)
    words = [sum(len(line.split()) for line in lines) for lines in (train, held)]
    assert 0.1 < words[1] / sum(words) <= 0.125


def test_the_topics_held_out_do_not_depend_on_their_order() -> None:
    topics = {f"topic {number}": [f"this is said by topic {number} ."] for number in range(40)}
    assert hold_out(topics)[0] == hold_out(dict(reversed(topics.items())))[0]


def test_the_stats_say_what_is_in_the_files_and_writing_again_changes_nothing(tmp_path: Path) -> None:
    stats = write_corpus(tmp_path / "new" / "folder")
    first = [(tmp_path / "new" / "folder" / name).read_bytes() for name in ("train.txt", "valid.txt")]
    assert [stats.train_words, stats.valid_words] == [len(text.split()) for text in first]
    assert stats.train_words > 20_000 and stats.topics > 50 and len(stats.held_out) > 3
    assert write_corpus(tmp_path / "new" / "folder") == stats
    assert first == [(tmp_path / "new" / "folder" / name).read_bytes() for name in ("train.txt", "valid.txt")]
