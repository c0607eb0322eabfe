"""Questions about a scene with instruments, on the 33 templates of MUSIC-AVQA."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from avpipe.stages.demo import answers
from avpipe.stages.demo.answers import Case, each, named, names, number, pairs, plain, playing
from avpipe.stages.demo.players import Facts, Player

Rule = Callable[[Facts], list[Case]]
"""All that can be asked with one template, and the answers."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        type: modality and task, such as `("Audio", "Counting")`.
        template: its text with placeholders.
        values: what stands for the placeholders, in order.
        answer: one of the dataset's 42.
    """

    type: tuple[str, str]
    template: str
    values: tuple[str, ...]
    answer: str


TEMPLATES: dict[tuple[str, str], dict[str, Rule]] = {
    ("Audio", "Counting"): {
        "How many musical instruments were heard throughout the video?": lambda facts: number(
            facts.heard, clear=len(named(facts)) == len(facts.heard)
        ),
        "Is there a <Object> sound?": lambda facts: each(names(facts.heard)),
        "Are there <Object> and <Object> sound? ": lambda facts: answers.both(names(facts.heard)),
    },
    ("Audio", "Comparative"): {
        "Is the <Object> louder than the <Object>?": lambda facts: pairs(named(facts), Player.is_louder, "name"),
        "Is the <Object> more rhythmic than the <Object>?": lambda facts: pairs(
            named(facts), Player.is_more_rhythmic, "name"
        ),
        "Is the <Object> playing longer than the <Object>?": lambda facts: pairs(
            named(facts), Player.plays_longer, "name"
        ),
    },
    ("Visual", "Counting"): {
        "How many <Object> are in the entire video?": answers.how_many_seen,
        "How many types of musical instruments appeared in the entire video?": lambda facts: number(
            {*names(facts.seen)}
        ),
        "Is there a <Object> in the entire video?": lambda facts: each(names(facts.seen)),
        "Are there <Object> and <Object> instruments in the video?": lambda facts: answers.both(names(facts.seen)),
    },
    ("Visual", "Location"): {
        "What is the instrument on the <LR> of <Object>?": answers.side_of,
        "What kind of instrument is the <LRer> instrument? ": answers.outermost,
        "What kind of musical instrument is it?": lambda facts: plain(facts.seen[0].name, clear=len(facts.seen) == 1),
        "Where is the performance?": lambda facts: plain(facts.where),
    },
    ("Audio-Visual", "Existential"): {
        "Is the <Object> in the video always playing?": answers.always,
        "Is there a voiceover?": lambda facts: plain(answers.yes(facts.voice)),
        "Is this sound from the instrument in the video?": answers.is_source,
    },
    ("Audio-Visual", "Location"): {
        "Is the <FL> sound coming from the <LR> instrument?": answers.from_place,
        "What is the <LR> instrument of the <FL> sounding instrument?": answers.neighbour,
        "Where is the <LL> instrument?": answers.loudest,
        "Which is the musical instrument that sounds at the same time as the <Object>?": answers.together,
    },
    ("Audio-Visual", "Counting"): {
        "How many instruments are sounding in the video?": lambda facts: number(facts.heard, clear=not facts.hidden),
        "How many instruments in the video did not sound from beginning to end?": answers.silent,
        "How many sounding <Object> in the video\uff1f": answers.how_many_playing,
        "How many types of musical instruments sound in the video?": lambda facts: number(
            {*names(facts.heard)}, clear=not facts.hidden
        ),
    },
    ("Audio-Visual", "Comparative"): {
        "Is the <Object> on the <LR> louder than the <Object> on the <LR>?": lambda facts: pairs(
            playing(facts), Player.is_louder, "name", "place"
        ),
        "Is the <Object> on the <LR> more rhythmic than the <Object> on the <LR>?": lambda facts: pairs(
            playing(facts), Player.is_more_rhythmic, "name", "place"
        ),
        "Is the instrument on the <LR> louder than the instrument on the <LR>?": lambda facts: pairs(
            playing(facts), Player.is_louder, "place"
        ),
        "Is the instrument on the <LR> more rhythmic than the instrument on the <LR>?": lambda facts: pairs(
            playing(facts), Player.is_more_rhythmic, "place"
        ),
    },
    ("Audio-Visual", "Temporal"): {
        "What is the <TH> instrument that comes in?": answers.comes_in,
        "Where is the <FL> sounding instrument?": answers.where_end,
        "Which <Object> makes the sound <FL>?": answers.which_first,
        "Which instrument makes sounds <BA> the <Object>?": answers.before_after,
    },
}
"""By type and text as the dataset has them, with blanks at the end of two and one full-width question mark."""


def ask(facts: Facts, rng: np.random.Generator) -> list[Question]:
    """One question of each type that the scene allows, on a random template of it.

    Of a template's answers each is as likely as the others, so that "yes" is no safe guess.

    Args:
        facts: the scene.
        rng: source of all choices.
    """
    questions = []
    for kind, templates in TEMPLATES.items():
        for index in rng.permutation(len(templates)):
            text, rule = list(templates.items())[index]
            cases = defaultdict(list)
            for values, answer in rule(facts):
                cases[answer].append(values)
            if cases:
                answer = sorted(cases)[rng.integers(len(cases))]
                values = cases[answer][rng.integers(len(cases[answer]))]
                questions.append(Question(kind, text, values, answer))
                break
    return questions
